"""`aim-engine render TARGET MODEL`: the plan as a file for another tool to start; starts nothing itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aim_engine.cli.arguments import add_model, add_settings
from aim_engine.cli.container_flags import (
    add_container_flags,
    replicas_typed,
    settings_typed,
    variables_typed,
    wishes_typed,
)
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import AimError, CacheError
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
    """A file: its text, and the same as a value for --json."""

    text: str
    document: Any


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of file: what help says of it, its own flags, and how a plan becomes one."""

    summary: str
    examples: str
    add_flags: Callable[[argparse.ArgumentParser], None]
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
    extra = variables_typed([word for word in arguments.env if "=" in word], {})
    wishes = wishes_typed(arguments, extra)
    specs: tuple[ContainerSpec, ...] = tuple(container_as_wished(plan, wishes) for plan in plans)
    specs = tuple(replace(spec, passed=(*spec.passed, *named)) for spec in specs)
    before = None
    if len(plans) > 1:
        specs, before = several(specs, plans, request, name=arguments.name, image=arguments.balancer_image)
    return Rendered(text=compose_text(*specs, balancer=before), document=compose_document(*specs, balancer=before))


def _plans(request: Request, count: int) -> tuple[Plan, ...] | Refusal:
    from aim_engine.decide import Planner, decide, look
    from aim_engine.plan import Refusal

    if count == 1:
        plan = decide(request)
        return plan if isinstance(plan, Refusal) else (plan,)
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


# A further kind of file is a line here.
_TARGETS = {
    "compose": Target(
        summary="a compose file, for `docker compose up`",
        examples=_COMPOSE_EXAMPLES,
        add_flags=_add_compose_flags,
        render=_compose,
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
        below.add_argument("-o", "--output", metavar="FILE", type=Path, help="write there instead of to stdout")
        below.add_argument("--json", action="store_true", help="the same content as JSON")
        add_settings(below, serving=True)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.plan import Refusal
    from aim_engine.report import refusal_text

    variables = variables_typed(arguments.env, environment)
    request = read_request(settings_typed(arguments), {**environment, **variables})
    plans = _plans(request, replicas_typed(arguments))
    if isinstance(plans, Refusal):
        if arguments.json:
            terminal.result_json(plans.as_json())
        elif plans.judged:
            terminal.say(refusal_text(plans))
        raise plans.error
    for warning in dict.fromkeys(warning for plan in plans for warning in plan.warnings):
        terminal.warn(warning)
    rendered = _TARGETS[arguments.target].render(plans, request, arguments)
    text = json.dumps(rendered.document, indent=2) if arguments.json else rendered.text
    if arguments.output is None:
        terminal.result(text.rstrip("\n"))
    else:
        _write(arguments.output, text.rstrip("\n") + "\n")
        terminal.say(f"wrote {arguments.output}")
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CacheError(
            f"{path} cannot be written: {error.strerror}", hint="name a file in a folder that you may write"
        ) from None
