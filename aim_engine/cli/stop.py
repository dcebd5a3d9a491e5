"""`aim-engine stop NAME...`: let endpoints finish what is in flight, then end and remove them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aim_engine.cli.running import duration, seconds_typed
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import UsageError

_EXAMPLES = """examples:
  aim-engine stop aim-engine-qwen-qwen3-32b-4gpu-bf16-vllm
  aim-engine stop Qwen/Qwen3-32B --replicas           every endpoint of that model
  aim-engine stop --all --timeout 300      every endpoint on this host; requests may take five minutes more

Without --timeout each may take its own stop time: its drain timeout and half a minute. The exit code is 0 when all
have drained, 143 when requests of one were cut short, or that of the gravest refusal.
"""
_QUIET_SECONDS = 2.0
_BETWEEN_LINES_SECONDS = 10.0  # of one endpoint, in a log


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("stop", help="end endpoints", description=__doc__, epilog=_EXAMPLES)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a container's name, id, or a model that only one serves"
    )
    parser.add_argument("-a", "--all", action="store_true", help="every endpoint on this host, ended ones too")
    parser.add_argument("--replicas", action="store_true",
                        help="all that were launched together with NAME; of a model, all that serve it")  # fmt: skip
    parser.add_argument("-t", "--timeout", metavar="SECONDS", help="how long requests in flight may finish")
    parser.add_argument("--keep", action="store_true", help="do not remove the containers: restart starts them again")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.engine import AIMEngine

    if bool(arguments.names) == arguments.all or (arguments.all and arguments.replicas):
        raise UsageError("name the endpoints to stop, or say --all", hint="aim-engine list shows them")
    seconds = seconds_typed(arguments.timeout) if arguments.timeout is not None else None
    with AIMEngine(environment=environment) as engine:
        wanted = (
            engine.endpoints(all=True) if arguments.all else engine.find(*arguments.names, replicas=arguments.replicas)
        )
        tell = Narration(say=terminal.say, lively=sys.stderr.isatty() and terminal.is_lively)
        try:
            stopped = engine.stop_endpoints(wanted, timeout=seconds, keep=arguments.keep, tell=tell)
        except KeyboardInterrupt:
            terminal.say("Docker goes on stopping what it was asked to stop; aim-engine stop again removes it")
            return 130
    return _told(stopped, arguments, terminal)


def _told(stopped: list[Any], arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Say what became of each; the exit code of the worst."""
    if arguments.json:
        terminal.result_json([one.as_json() for one in stopped])
    elif not stopped:
        terminal.say("no endpoint is on this host")
    else:
        for one in stopped:
            terminal.result(_line(one, arguments.keep))
    refused = [one for one in stopped if one.error is not None]
    for one in refused[1:]:
        terminal.warn(f"{one.endpoint.name}: {one.error.message}; {one.error.hint}")
    if refused:
        raise refused[0].error
    return max((one.code for one in stopped), default=0)


@dataclass
class Narration:
    """Says how far endpoints are: to a person all the time, in a log what has changed, and not too often."""

    say: Callable[[str], None]
    lively: bool
    _said: dict[str, tuple[str, float]] = field(default_factory=dict)

    def __call__(self, progress: list[Any]) -> None:
        for one in progress:
            if one.seconds < _QUIET_SECONDS:
                continue
            left = "finishing" if one.requests is None else f"{one.requests} request{'s' * (one.requests != 1)} left"
            if self.lively or self._is_news(one.name, left, one.seconds):
                self._said[one.name] = left, one.seconds
                self.say(f"{one.name}: {left}, {one.seconds:.0f} s of at most {one.allowed_seconds} s")

    def _is_news(self, name: str, left: str, seconds: float) -> bool:
        words, at = self._said.get(name, ("", -_BETWEEN_LINES_SECONDS))
        return left != words and seconds - at >= _BETWEEN_LINES_SECONDS


def _line(one: Any, keep: bool) -> str:
    if one.error is not None:
        return f"{one.endpoint.name}: not stopped"
    how = "had ended" if not one.was_running else "cut short" if one.cut_short else "stopped"
    took = f" after {duration(one.seconds)}" if one.was_running else ""
    kept = ", kept" if keep else ", removed" if one.removed else ""
    freed = f"; freed {one.freed}" if one.freed else ""
    log = f"; its log stays in {one.endpoint.log_file}" if one.endpoint.log_file else ""
    return f"{one.endpoint.name}: {how}{took}{kept}{freed}{log}"
