"""`aim-engine list`: every endpoint on this host, whoever launched it, and how it does."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.running import amount, duration, gpus, state
from aim_engine.cli.terminal import Terminal

_EXAMPLES = """examples:
  aim-engine list                          what runs
  aim-engine list --all --json             what has ended too, for programs
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("list", help="the endpoints on this host", description=__doc__, epilog=_EXAMPLES)
    parser.add_argument("-a", "--all", action="store_true", help="those that have ended too")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.engine import AIMEngine
    from aim_engine.report import table

    with AIMEngine(environment=environment) as engine:
        found = engine.list_models(all=arguments.all)
    if arguments.json:
        terminal.result_json([one.as_json() for one in found])
    elif found:
        terminal.result("\n".join(table([_HEAD, *map(_row, found)], terminal.paint)))
        for one in found:
            if one.endpoint.state == "created":  # as a launch that was killed leaves it
                name = one.endpoint.name
                terminal.say(f"{name}: created and never started; aim-engine stop {name} removes it")
            elif one.health.reason and not one.health.ready:
                terminal.say(f"{one.endpoint.name}: {one.health.reason}")
    else:
        more = "" if arguments.all else "; --all shows those that have ended"
        terminal.say(f"no endpoint runs on this host{more}; aim-engine launch MODEL starts one")
    return 0


_HEAD = ("name", "model", "state", "health", "gpus", "up", "tokens/s", "api")


def _row(running: Any) -> tuple[str, ...]:
    from aim_engine.deploy.looking import uptime_seconds

    one, speed = running.endpoint, amount(running.tokens_per_second, digits=1)
    return (one.name, one.model, state(one), running.health.word, gpus(one), duration(uptime_seconds(one)), speed,
            one.api_url or amount(None))  # fmt: skip
