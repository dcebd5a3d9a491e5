"""`aim-engine watch`: all endpoints on this host, live: health, requests, tokens per second, and their GPUs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aim_engine.cli.running import NOTHING, amount, duration, share
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import CacheError, DockerError, InputError

if TYPE_CHECKING:
    from aim_engine.deploy.endpoints import Endpoint
    from aim_engine.engine import AIMEngine

_EXAMPLES = """examples:
  aim-engine watch                                     a live table, until ^C
  aim-engine watch --once                              one table
  aim-engine watch --json --interval 10                an object a line, for each endpoint every ten seconds
  aim-engine watch --prometheus /etc/prometheus/aim-engine.json

The last keeps a list of targets for Prometheus, which reads it by:
  scrape_configs: [{job_name: aim-engine, file_sd_configs: [{files: [/etc/prometheus/aim-engine.json]}]}]
"""
_HEAD = ("name", "health", "running", "waiting", "tokens/s", "kv", "gpu memory", "power", "heat", "restarts", "up")
_LEAST = (12, 8, 7, 7, 8, 4, 10, 6, 5, 8, 10)  # columns of a terminal
_LEFT = 2
_GIB = 1024**3
_COLOURS = {"ready": "green", "healthy": "green", "failed": "red", "no answer": "red", "unhealthy": "red"}
_FIRST_SECONDS = 1.0  # a rate needs two looks


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("watch", help="the endpoints, live", description=__doc__, epilog=_EXAMPLES)
    parser.add_argument("-n", "--interval", metavar="SECONDS", default="2", help="between two looks [default 2]")
    parser.add_argument("--once", action="store_true", help="one look (two, a second apart, for the rates) and no more")
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each endpoint")
    parser.add_argument("--prometheus", metavar="FILE", type=Path, help="keep a file of scrape targets (file_sd) too")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    interval = _interval(arguments.interval)
    if arguments.prometheus is not None:
        from aim_engine.deploy.prometheus import check_target

        check_target(arguments.prometheus)
    from aim_engine.engine import AIMEngine

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container is stopped by it
    try:
        with AIMEngine(environment=environment) as engine:
            looker = _Looker(engine, arguments.prometheus, terminal, arguments.once)
            return _once(looker, arguments, terminal) if arguments.once else _watch(looker, interval, arguments)
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(looker: _Looker, interval: float, arguments: argparse.Namespace) -> int:
    terminal, live = looker.terminal, sys.stdout.isatty() and not arguments.json
    show: Any = _Live(terminal) if live else nullcontext(lambda rows: _plain(rows, arguments, terminal))
    with show as tell:
        try:
            for rows in _forever(looker, interval):
                tell(rows)
        except KeyboardInterrupt:  # how it is meant to end
            return 0
    return 0


@dataclass
class _Looker:
    """Looks once: at Docker, at every endpoint, and keeps the file of targets."""

    engine: AIMEngine
    targets: Path | None
    terminal: Terminal
    once: bool
    look: Callable[[Iterable[Endpoint]], list[Any]] | None = None
    told: str = ""
    unwritten: str = ""

    def rows(self, *, patient: bool = False) -> list[Any] | None:
        """None where Docker does not answer, and that can be waited for."""
        try:
            self.look = self.look or self.engine.watcher()
            endpoints = self.engine.endpoints()
        except DockerError as error:
            if not patient:
                raise
            if error.message != self.told:  # once for each reason
                self.terminal.warn(f"{error.message}; waiting until it is back")
            self.told = error.message
            return None
        self.told = ""
        if self.targets is not None:
            self._write(self.targets, endpoints)
        return self.look(endpoints)

    def _write(self, targets: Path, endpoints: list[Endpoint]) -> None:
        """A full disk does not end the watching: the old file stays, and the next look tries again."""
        from aim_engine.deploy.prometheus import write_targets

        try:
            if write_targets(targets, endpoints):
                self.terminal.say(f"wrote {targets}")
            self.unwritten = ""
        except CacheError as error:
            if self.once:
                raise
            if error.message != self.unwritten:  # once for each reason
                self.terminal.warn(f"{error.message}; the old list stays, and it is tried again: {error.hint}")
            self.unwritten = error.message


def _once(looker: _Looker, arguments: argparse.Namespace, terminal: Terminal) -> int:
    rows = looker.rows() or []
    if any(row.health.ready for row in rows):
        time.sleep(_FIRST_SECONDS)
        rows = looker.rows() or []
    _plain(rows, arguments, terminal, stamp=False)
    return 0


def _forever(looker: _Looker, interval: float) -> Iterator[list[Any]]:
    """Rows at once and then every interval, however long the looks take."""
    yield looker.rows() or []
    following = time.monotonic() + min(interval, _FIRST_SECONDS)
    while True:
        time.sleep(max(0.0, following - time.monotonic()))
        following = max(following, time.monotonic()) + interval
        rows = looker.rows(patient=True)
        if rows is not None:
            yield rows


def _plain(rows: list[Any], arguments: argparse.Namespace, terminal: Terminal, *, stamp: bool = True) -> None:
    from aim_engine.report import table

    now = datetime.now(UTC).isoformat(timespec="seconds")
    if arguments.json:
        for row in rows:
            terminal.result(json.dumps({"at": now, **row.as_json()}))
        return
    if stamp:
        terminal.result(now)
    if rows:
        terminal.result("\n".join(table([_HEAD, *map(_cells, rows)], terminal.paint)))
    else:
        terminal.say("no endpoint runs on this host")


def _cells(row: Any) -> tuple[str, ...]:
    used, total = row.sensors.memory_used_bytes, row.sensors.memory_total_bytes
    memory = f"{used / _GIB:.0f}/{total / _GIB:.0f} GiB" if used is not None and total else amount(None)
    return (
        row.name,
        row.health.word,
        amount(row.running),
        amount(row.waiting),
        amount(row.tokens_per_second, digits=1),
        share(row.kv_cache_usage),
        memory,
        amount(row.sensors.power_watts, " W"),
        amount(row.sensors.temperature_celsius, " °C"),
        str(row.restarts),
        duration(row.uptime_seconds),
    )


class _Live:
    """The table in place, on a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        from rich.console import Console
        from rich.live import Live

        plain = terminal.paint("strong", "x") == "x"  # NO_COLOR, TERM=dumb
        self._live = Live(console=Console(no_color=plain, highlight=False), auto_refresh=False)

    def __enter__(self) -> Any:
        self._live.__enter__()
        return lambda rows: self._live.update(_rich_table(rows), refresh=True)

    def __exit__(self, *reason: Any) -> None:
        self._live.__exit__(*reason)


def _rich_table(rows: list[Any]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = f"{len(rows)} endpoint{'s' * (len(rows) != 1)}, {datetime.now().astimezone():%H:%M:%S}, ^C ends"
    table = Table(box=SIMPLE_HEAD, caption=title, caption_justify="left", padding=(0, 1, 0, 0))
    cells = [_cells(row) for row in rows]
    # on 80 columns there is no room for what nobody knows
    shown = [index for index in range(len(_HEAD)) if not cells or any(row[index] != NOTHING for row in cells)]
    for index in shown:
        table.add_column(_HEAD[index], justify="left" if index < _LEFT else "right", no_wrap=True,
                         overflow="ellipsis" if index == 0 else "crop", min_width=_LEAST[index])  # fmt: skip
    for row, line in zip(rows, cells, strict=True):
        texts = [Text(cell) for cell in line]  # no markup: a container's name is not ours
        texts[1].stylize(_COLOURS.get(row.health.word, "yellow"))
        table.add_row(*(texts[index] for index in shown))
    return table


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= 3600:
        raise InputError(f"--interval {text[:80]!r} is no interval", hint="use seconds from 0.2 to 3600")
    return seconds
