"""`aim-engine restart NAME`: let an endpoint finish what is in flight, start it again, and wait until it is ready."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.running import duration, engine, seconds_typed
from aim_engine.cli.terminal import Terminal

_LONG_SECONDS = 86400.0  # the container ends by itself when its own start takes too long


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("restart", help="start an endpoint again", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="a container's name, id, or a model that only one serves")
    parser.add_argument("-t", "--timeout", metavar="SECONDS",
                        help="how long to wait until it is ready [default: no limit but its own]")  # fmt: skip
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait until it is ready")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.deploy.docker import guarded
    from aim_engine.deploy.endpoint import wait_for_endpoint_ready
    from aim_engine.deploy.endpoints import endpoint_of

    limit = float(seconds_typed(arguments.timeout)) if arguments.timeout is not None else _LONG_SECONDS
    with engine(environment) as docker:
        (before,) = docker.find(arguments.name)
        terminal.say(f"{before.name}: stopping, and starting again")
        with guarded(f"restart {before.name}"):
            docker.client.api.restart(before.container_id, timeout=before.stop_seconds)
            endpoint = docker.vantage.reach(endpoint_of(docker.client.api.inspect_container(before.container_id)))
        waited = None
        if not arguments.detach:
            waited = wait_for_endpoint_ready(
                endpoint,
                docker.client,
                limit,
                lambda phase, reason: terminal.say(f"  {phase}{': ' if reason else ''}{reason}"),
                vantage=docker.vantage,
            )
            endpoint = waited.endpoint
    if arguments.json:
        seconds = round(waited.seconds, 3) if waited else None
        terminal.result_json({**endpoint.as_json(), "ready": waited is not None, "seconds": seconds})
    else:
        took = f" is ready after {duration(waited.seconds)}" if waited else " was started again"
        terminal.result(f"{endpoint.name}{took}{f' at {endpoint.url}' if endpoint.url else ''}")
    return 0
