"""What the runtime says about itself: a sentence in, one line on stderr out, as text or as one JSON object.

Knows nothing of who speaks or why. One `write` for each line keeps lines of several processes apart (pipe(7):
writes up to PIPE_BUF are atomic). A process has one stderr, so there is one place for a copy of what it says there.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress

LEVELS = ("debug", "info", "warning", "error")

# vLLM: `(APIServer pid=7) INFO 11-21 17:43:00 [api_server.py:1] text`; uvicorn: `INFO:     text`
_ENGINE_LEVEL = re.compile(r"^(?:\([^)]*\) ?)*(DEBUG|INFO|WARNING|ERROR|CRITICAL)[ :]")
_ENGINE_LEVELS = {"CRITICAL": "error"}

_copies: list[Callable[[bytes], None]] = []


def copy_to(take: Callable[[bytes], None] | None) -> None:
    """From now on hand whole lines that this process says to `take` as well; None ends that."""
    _copies[:] = [] if take is None else [take]


def say(lines: bytes, descriptor: int = 2) -> None:
    """Whole lines, to stderr and to the copy. Nobody may read any more; the work goes on."""
    for take in _copies:
        take(lines)
    with suppress(OSError):
        os.write(descriptor, lines)


class Log:
    """A named voice. `level` and `style` ("text" or "json") are settings of the whole run."""

    def __init__(self, source: str, *, level: str = "info", style: str = "text", descriptor: int = 2) -> None:
        self._source = source
        self._threshold = LEVELS.index(level)
        self._style = style
        self._descriptor = descriptor

    def debug(self, message: str) -> None:
        self._say("debug", message)

    def info(self, message: str) -> None:
        self._say("info", message)

    def warning(self, message: str) -> None:
        self._say("warning", message)

    def error(self, message: str) -> None:
        self._say("error", message)

    def _say(self, level: str, message: str) -> None:
        if LEVELS.index(level) >= self._threshold:
            say(self.line(level, message), self._descriptor)

    def line(self, level: str, message: str) -> bytes:
        """What would be said, whatever the level."""
        if self._style == "json":
            line = json_line(self._source, level, message)
        else:
            mark = "" if level in ("info", "debug") else f"{level}: "
            line = f"{time.strftime('%H:%M:%S')} aim {self._source}: {mark}{message}\n"
        return line.encode("utf-8", "backslashreplace")


def json_line(source: str, level: str, message: str) -> str:
    """One log line as JSON."""
    now = time.time()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    return json.dumps({"time": at, "source": source, "level": level, "message": message}, ensure_ascii=False) + "\n"


def wrap_line(source: str, text: str) -> str:
    """A line of a program that does not speak JSON, as JSON; a line that is one of ours already comes back as it is."""
    if text.startswith('{"time":'):
        try:
            json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            pass
        else:
            return text + "\n"
    found = _ENGINE_LEVEL.match(text)
    level = _ENGINE_LEVELS.get(found[1], found[1].lower()) if found else "info"
    return json_line(source, level, text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON, whatever Python says")
