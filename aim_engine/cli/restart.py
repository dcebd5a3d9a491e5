"""`aim-engine restart NAME`: let an endpoint finish what is in flight, start it again, and wait until it is ready."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.running import duration, seconds_typed
from aim_engine.cli.terminal import Terminal


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("restart", help="start an endpoint again", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="a container's name, id, or a model that only one serves")
    parser.add_argument("-t", "--timeout", metavar="SECONDS",
                        help="how long to wait until it is ready [default: no limit but its own]")  # fmt: skip
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait until it is ready")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.engine import AIMEngine

    limit = float(seconds_typed(arguments.timeout)) if arguments.timeout is not None else None
    with AIMEngine(environment=environment) as engine:
        (before,) = engine.find(arguments.name)
        terminal.say(f"{before.name}: stopping, and starting again")
        restarted = engine.restart_model(
            before.container_id,
            wait=not arguments.detach,
            timeout=limit,
            tell=lambda phase, reason: terminal.say(f"  {phase}{': ' if reason else ''}{reason}"),
        )
    endpoint = restarted.endpoint
    if arguments.json:
        terminal.result_json(restarted.as_json())
    else:
        took = f" is ready after {duration(restarted.ready_seconds)}" if restarted.ready else " was started again"
        terminal.result(f"{endpoint.name}{took}{f' at {endpoint.api_url}' if endpoint.api_url else ''}")
    return 0
