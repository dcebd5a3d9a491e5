"""`aim-engine render TARGET MODEL`: the plan as a file for another tool to start; starts nothing itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aim_engine.cli.arguments import add_model, add_settings
from aim_engine.cli.container_flags import add_container_flags, settings_typed, variables_typed, wishes_typed
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import CacheError
from aim_engine.request import read_request

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
    render: Callable[[Any, argparse.Namespace], Rendered]


def _add_compose_flags(parser: argparse.ArgumentParser) -> None:
    add_container_flags(parser, user="as the image says")


def _compose(plan: Any, arguments: argparse.Namespace) -> Rendered:
    from aim_engine.deploy.compose import compose_document, compose_text
    from aim_engine.deploy.inside import PassedVariable
    from aim_engine.deploy.launch_decide import container_as_wished

    # a value that was not typed here is none for a file: whoever uses the file supplies it
    named = [word for word in arguments.env if "=" not in word]
    extra = variables_typed([word for word in arguments.env if "=" in word], {})
    spec = container_as_wished(plan, wishes_typed(arguments, extra))
    passed = (*spec.passed, *(PassedVariable(name=name, required=True) for name in named))
    spec = replace(spec, passed=passed)
    return Rendered(text=compose_text(spec), document=compose_document(spec))


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
    from aim_engine.decide import decide
    from aim_engine.plan import Refusal
    from aim_engine.report import refusal_text

    variables = variables_typed(arguments.env, environment)
    plan = decide(read_request(settings_typed(arguments), {**environment, **variables}))
    if isinstance(plan, Refusal):
        if arguments.json:
            terminal.result_json(plan.as_json())
        else:
            terminal.say(refusal_text(plan))
        raise plan.error
    for warning in plan.warnings:
        terminal.warn(warning)
    rendered = _TARGETS[arguments.target].render(plan, arguments)
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
