"""`aim-engine render TARGET MODEL`: the plan as a file for another tool to start; starts nothing itself."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aim_engine.cli import render_kserve, render_kubernetes
from aim_engine.cli.arguments import add_model, add_settings, typed_flags
from aim_engine.cli.container_flags import (
    add_container_flags,
    replicas_typed,
    settings_typed,
    variables_typed,
    variables_written,
    wishes_typed,
)
from aim_engine.cli.output import is_stream, write_file, write_folder
from aim_engine.cli.render_watching import PAGES, page_of
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import AimError, UsageError
from aim_engine.request import Request, read_request

if TYPE_CHECKING:
    from aim_engine.deploy.spec import ContainerSpec
    from aim_engine.plan import Plan, Refusal

_DESCRIPTION = """Write the plan for a model as a file that another tool starts: nothing is started here.

The plan is made as `aim-engine plan` makes it, on this host or on the hardware you name; the file pins its recipe.
No secret is written: AIM_API_KEY and HF_TOKEN are taken from the environment when the file is used.
"""
_COMPOSE_EXAMPLES = """examples:
  aim-engine render compose Qwen/Qwen3-32B > compose.yaml     for the GPUs of this host, and
  docker compose up -d --wait                                   start it and wait until it is ready

  aim-engine render compose Qwen/Qwen3-32B --hardware MI300X:8 --gpus 4 -o compose.yaml
                                                              for another host, from anywhere
  aim-engine render compose ./my-model --host 127.0.0.1 --port 9000 --cache-dir /data/cache --user $(id -u):$(id -g)
                                                              a model folder, published to this host alone

  aim-engine render compose Qwen/Qwen3-32B --hardware MI300X:8 --replicas 4 -o compose.yaml
                                                              four endpoints on two GPUs each, and an nginx before them

--host, --port and --health-port are the host's; inside, the API is at 8000 and the health sidecar at 8080.
--cache-dir is a folder of the host; without it the cache is the volume aim-engine-cache. --env NAME without a value
leaves it to the environment of docker compose.
"""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A file: its text, and the same as a value for --json; or the `files` of a folder, by their paths below it.
    `warnings` are for whoever asked.
    """

    text: str
    document: Any
    files: Mapping[str, str] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of file: what help says of it, its own flags, what they ask for, how it is planned, and how a plan becomes
    one.
    """

    summary: str
    examples: str
    output: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    request: Callable[[argparse.Namespace, dict[str, str]], Request]
    plans: Callable[[Request, argparse.Namespace], tuple[Plan, ...] | Refusal]
    render: Callable[[tuple[Plan, ...], Request, argparse.Namespace], Rendered]


def _add_compose_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replicas", metavar="N", help="so many endpoints, and an nginx before them [default 1]")
    parser.add_argument("--balancer-image", metavar="IMAGE",
                        help="its image [default BALANCER_IMAGE at its start, else the official one]")  # fmt: skip
    add_container_flags(parser, user="as the image says")


def _compose(plans: tuple[Plan, ...], request: Request, arguments: argparse.Namespace) -> Rendered:
    from aim_engine.deploy.balancer import several
    from aim_engine.deploy.compose import compose_document, compose_text
    from aim_engine.deploy.inside import PassedVariable
    from aim_engine.deploy.launch_decide import container_as_wished

    # a value that was not typed here is none for a file: whoever uses the file supplies it
    named = [PassedVariable(name=word, required=True) for word in arguments.env if "=" not in word]
    extra = variables_written(arguments.env)
    wishes = wishes_typed(arguments, extra)
    specs: tuple[ContainerSpec, ...] = tuple(container_as_wished(plan, wishes) for plan in plans)
    specs = tuple(replace(spec, passed=(*spec.passed, *named)) for spec in specs)
    before = None
    if len(plans) > 1:
        specs, before = several(specs, plans, request, name=arguments.name, image=arguments.balancer_image)
    return Rendered(text=compose_text(*specs, balancer=before), document=compose_document(*specs, balancer=before))


def _compose_request(arguments: argparse.Namespace, environment: dict[str, str]) -> Request:
    variables_written(arguments.env)
    variables = variables_typed(arguments.env, environment)
    return read_request(settings_typed(arguments), {**environment, **variables})


def _compose_plans(request: Request, arguments: argparse.Namespace) -> tuple[Plan, ...] | Refusal:
    from aim_engine.decide import Planner, look
    from aim_engine.plan import Refusal

    count = replicas_typed(arguments)
    if count == 1:
        return _one_plan(request, arguments)
    from aim_engine.deploy.allocation import Allocation
    from aim_engine.deploy.free_ports import health_ports_following
    from aim_engine.deploy.replicas import plan_replicas

    planner = Planner()

    def plan_one(one: Request, left: Allocation) -> Plan:
        found = planner(one, left.inventory)
        if isinstance(found, Refusal):
            raise found.error
        return found

    behind = replace(request, tls_cert=None, tls_key=None)  # TLS ends before them
    everything = Allocation(inventory=look(request), held={})
    try:
        return plan_replicas(health_ports_following(behind, count), everything, plan_one)
    except AimError as error:
        return Refusal(error=error)


def _one_plan(request: Request, arguments: argparse.Namespace) -> tuple[Plan, ...] | Refusal:
    from aim_engine.decide import decide
    from aim_engine.plan import Refusal

    plan = decide(request)
    return plan if isinstance(plan, Refusal) else (plan,)


def _kubernetes_request(arguments: argparse.Namespace, environment: dict[str, str]) -> Request:
    return read_request(typed_flags(arguments), {**environment, **variables_written(arguments.env)})


def _kubernetes(plans: tuple[Plan, ...], request: Request, arguments: argparse.Namespace) -> Rendered:
    return render_kubernetes.render(plans[0], arguments)


def _kserve(plans: tuple[Plan, ...], request: Request, arguments: argparse.Namespace) -> Rendered:
    return render_kserve.render(plans[0], arguments)


# A further kind of file is a line here.
_TARGETS = {
    "compose": Target(
        summary="a compose file, for `docker compose up`",
        examples=_COMPOSE_EXAMPLES,
        output="FILE",
        add_flags=_add_compose_flags,
        request=_compose_request,
        plans=_compose_plans,
        render=_compose,
    ),
    "kubernetes": Target(
        summary=render_kubernetes.SUMMARY,
        examples=render_kubernetes.EXAMPLES,
        output="FILE.yaml|DIR",
        add_flags=render_kubernetes.add_flags,
        request=_kubernetes_request,
        plans=_one_plan,
        render=_kubernetes,
    ),
    "kserve": Target(
        summary=render_kserve.SUMMARY,
        examples=render_kserve.EXAMPLES,
        output="FILE",
        add_flags=render_kubernetes.add_flags,
        request=_kubernetes_request,
        plans=_one_plan,
        render=_kserve,
    ),
}


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("render", help="the plan as a file for another tool", description=_DESCRIPTION)
    targets = parser.add_subparsers(dest="target", metavar="TARGET", required=True)
    for name, target in _TARGETS.items():
        below = targets.add_parser(
            name, help=target.summary, description=f"The plan as {target.summary}.", epilog=target.examples
        )
        add_model(below)
        target.add_flags(below)
        _add_output_flags(below, target.output)
        add_settings(below, serving=True)
    for name, page in PAGES.items():
        below = targets.add_parser(name, help=page.summary, description=page.summary, epilog=page.examples)
        _add_output_flags(below, "FILE")


def _add_output_flags(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument("-o", "--output", metavar=output, type=_path, help="write there instead of to stdout")
    parser.add_argument("--json", action="store_true", help="the same content as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.expected import check_expected
    from aim_engine.plan import Refusal
    from aim_engine.report import refusal_text

    if arguments.target in PAGES:
        text, document = page_of(arguments.target)
        _put(Rendered(text=text, document=document), arguments, terminal)
        return 0
    target = _TARGETS[arguments.target]
    request = target.request(arguments, environment)
    plans = target.plans(request, arguments)
    if isinstance(plans, Refusal):
        if arguments.json:
            terminal.result_json(plans.as_json())
        elif plans.judged:
            terminal.say(refusal_text(plans))
        raise plans.error
    for plan in plans:
        check_expected(plan)
    for warning in dict.fromkeys(warning for plan in plans for warning in plan.warnings):
        terminal.warn(warning)
    rendered = target.render(plans, request, arguments)
    for warning in rendered.warnings:
        terminal.warn(warning)
    _put(rendered, arguments, terminal)
    return 0


def _put(rendered: Rendered, arguments: argparse.Namespace, terminal: Terminal) -> None:
    output: Path | None = arguments.output
    as_json = arguments.json or (output is not None and output.suffix.lower() == ".json")
    text = json.dumps(rendered.document, indent=2) if as_json else rendered.text
    if output is None or output == Path("-"):
        terminal.result(text.rstrip("\n"))
    elif rendered.files is None or output.suffix.lower() in _FILES or is_stream(output):
        write_file(output, text.rstrip("\n") + "\n")
        terminal.say(f"wrote {output}")
    elif arguments.json:
        raise UsageError(f"--json is one file, and {output} would be a folder", hint=f"name a file: {output}.json")
    else:
        _put_below(output, rendered.files, terminal)


def _put_below(folder: Path, files: Mapping[str, str], terminal: Terminal) -> None:
    former = _resources(folder / _BASE / "kustomization.yaml")
    write_folder(folder, files, first=f"{_BASE}/kustomization.yaml", mark="made by aim-engine")
    for name in _left_over(folder, files):
        terminal.warn(f"{folder / name} is of an earlier time and may not fit the base any more: remove it")
    for name in former:
        if f"{_BASE}/{name}" not in files and (folder / _BASE / name).is_file():
            terminal.warn(f"{folder / _BASE / name} is of an earlier time, and applied no more: remove it, and in the "
                          "cluster what it made")  # fmt: skip
    terminal.say(f"wrote {len(files)} files below {folder}; kubectl apply -k {shlex.quote(str(folder / _BASE))}")


def _resources(kustomization: Path) -> list[str]:
    """The files that an earlier base was made of."""
    import yaml

    try:
        listed = yaml.safe_load(kustomization.read_text(encoding="utf-8"))["resources"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return []
    return [name for name in listed if isinstance(name, str) and "/" not in name] if isinstance(listed, list) else []


def _left_over(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Overlays of an earlier time that this one did not write; the user's own have other names."""
    names = [f"overlays/{name}" for name in render_kubernetes.overlay_names()]
    written = {name.rpartition("/")[0] for name in files}
    return [name for name in names if name not in written and (folder / name / "kustomization.yaml").is_file()]


# What ends so is a file, where a folder could be meant too.
_FILES = (".yaml", ".yml", ".json")
_BASE = "base"


def _path(text: str) -> Path:
    if not text:
        raise UsageError("-o '' names nothing", hint="name a file or a folder, or - for stdout")
    return Path(text)
