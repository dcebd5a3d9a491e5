"""What the supervised programs print, passed on: two pipes in, our own stdout and stderr out.

As text, bytes pass untouched; as JSON, every line becomes one object. It runs in a thread, so that a reader who has
stopped reading our stdout never keeps the parent from a signal. Knows nothing of what the lines mean, nor where a copy
of them goes.
"""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Callable
from contextlib import suppress

from aim_engine.runtime.log import json_line, wrap_line
from aim_engine.runtime.log_copy import Lines

_CHUNK = 65536
_LONGEST_LINE = 65536
_LINE_END = re.compile(rb"\r\n|\n|\r")  # progress bars end their lines with \r


class Relay(threading.Thread):
    """Reads until both pipes are closed at their other end: the engine's, for stdout, and our programs', for stderr.
    `copy` takes whole lines of both.
    """

    def __init__(self, *, engine: int, programs: int, style: str, copy: Callable[[bytes], None] | None = None) -> None:
        super().__init__(name="relay", daemon=True)
        self._routes = {engine: 1, programs: 2}
        self._sources = {engine: "engine", programs: "aim"}
        self._style = style
        self._rest = dict.fromkeys(self._routes, b"")
        self._last = dict.fromkeys(self._routes, b"\n")
        self._copies = {source: Lines(copy, _LONGEST_LINE) for source in self._routes} if copy else {}

    def run(self) -> None:
        open_ends = select.poll()
        for source in self._routes:
            open_ends.register(source, select.POLLIN)
        left = len(self._routes)
        while left:
            for source, _ in open_ends.poll():
                if not self._empty(source):
                    open_ends.unregister(source)
                    left -= 1

    def _empty(self, source: int) -> bool:
        """Pass on what is there; False at its end. Whatever goes wrong costs these bytes only: with nobody to empty the
        pipe, it would fill up and the engine would block.
        """
        try:
            data = os.read(source, _CHUNK)
        except OSError:
            data = b""
        try:
            self._pass_on(source, data)
        except Exception:  # see above
            self._rest[source] = b""
        return bool(data)

    def end_lines(self) -> None:
        """End a line that was left open: what follows is to stand on a line of its own, on a terminal too."""
        for source, last in self._last.items():
            if last not in (b"\n", b"\r"):
                self._pass_on(source, b"\n")
        for lines in self._copies.values():
            lines.end()

    def _pass_on(self, source: int, data: bytes) -> None:
        if self._style == "json":
            data = self._wrap(source, data)
        self._last[source] = data[-1:] or self._last[source]
        if source in self._copies:
            with suppress(Exception):  # a copy never costs the stream itself
                self._copies[source].add(data)
        while data:
            try:
                data = data[os.write(self._routes[source], data) :]
            except OSError:
                return  # nobody reads; keep emptying the pipe, or the engine would block

    def _wrap(self, source: int, data: bytes) -> bytes:
        whole = self._rest[source] + data
        *lines, rest = _LINE_END.split(whole) if data else (whole, b"")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._rest[source] = rest
        name = self._sources[source]
        return "".join(_wrapped(name, line.decode("utf-8", "replace")) for line in lines if line).encode()


def _wrapped(source: str, text: str) -> str:
    try:
        return wrap_line(source, text)
    except Exception:  # no line may cost another one
        return json_line(source, "info", text)
