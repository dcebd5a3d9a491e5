"""`aim-engine list`: every endpoint on this host, whoever launched it, and how it does."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.running import amount, duration, engine, gpus, state
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
    from aim_engine.deploy.looking import two_looks
    from aim_engine.report import table

    with engine(environment) as docker:
        found = two_looks(docker.endpoints(everything=arguments.all), environment)
    if arguments.json:
        terminal.result_json([endpoint_json(seen, rates) for seen, rates in found])
    elif found:
        rows = [_HEAD, *(_row(seen, rates) for seen, rates in found)]
        terminal.result("\n".join(table(rows, terminal.paint)))
        for seen, _ in found:
            if seen.health.reason and not seen.health.ready:
                terminal.say(f"{seen.endpoint.name}: {seen.health.reason}")
    else:
        more = "" if arguments.all else "; --all shows those that have ended"
        terminal.say(f"no endpoint runs on this host{more}; aim-engine launch MODEL starts one")
    return 0


_HEAD = ("name", "model", "state", "health", "gpus", "up", "tokens/s", "url")


def _row(seen: Any, rates: Any) -> tuple[str, ...]:
    from aim_engine.deploy.looking import uptime_seconds

    one = seen.endpoint
    speed = amount(rates.tokens_per_second, digits=1) if rates else amount(None)
    return (one.name, one.model, state(one), seen.health.word, gpus(one), duration(uptime_seconds(one)), speed,
            one.url or amount(None))  # fmt: skip


def endpoint_json(seen: Any, rates: Any) -> dict[str, Any]:
    """One endpoint for programs; keys may be added, never renamed."""
    from dataclasses import asdict

    from aim_engine.deploy.looking import uptime_seconds

    return {
        **seen.endpoint.as_json(),
        "health": asdict(seen.health),
        "phase": seen.health.phase or None,
        "uptime_seconds": uptime_seconds(seen.endpoint),
        "tokens_per_second": rates.tokens_per_second if rates else None,
        "requests_running": seen.counters.running,
        "requests_waiting": seen.counters.waiting,
        "kv_cache_usage": seen.counters.kv_cache_usage,
    }
