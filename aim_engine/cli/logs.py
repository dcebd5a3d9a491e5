"""`aim-engine logs NAME`: what an endpoint writes, as it is: its stdout to stdout, its stderr to stderr."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Literal

from aim_engine.cli.terminal import Terminal, unwritten
from aim_engine.errors import InputError

_EXAMPLES = """examples:
  aim-engine logs NAME --tail 50           the last 50 lines
  aim-engine logs NAME -f --since 10m      from ten minutes ago on, until it ends; ^C ends only the following
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("logs", help="what an endpoint writes", description=__doc__, epilog=_EXAMPLES)
    parser.add_argument("name", metavar="NAME", help="a container's name, id, or a model that only one serves")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    parser.add_argument("-n", "--tail", metavar="LINES", help="only the last lines [default all]")
    parser.add_argument("--since", metavar="TIME", help="only what is newer: 10m, 2h, 1d or a date and time")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.deploy.container_log import since_typed, stream_log
    from aim_engine.engine import AIMEngine

    tail, since = _lines(arguments.tail), since_typed(arguments.since) if arguments.since else None
    with AIMEngine(environment=environment) as engine:
        (endpoint,) = engine.find(arguments.name)
        try:
            for stream, piece in stream_log(engine.docker, endpoint, follow=arguments.follow, tail=tail, since=since):
                _write("stderr" if stream == 2 else "stdout", piece)
        except KeyboardInterrupt:
            return 130
    return 0


def _write(name: Literal["stdout", "stderr"], piece: bytes) -> None:
    stream = getattr(sys, name).buffer
    try:
        stream.write(piece)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritten(error, name) from None


def _lines(text: str | None) -> int | None:
    if text is None or text == "all":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InputError(f"--tail {text[:80]!r} is no number of lines", hint="use a whole number, or all")
    return int(text)
