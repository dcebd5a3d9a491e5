"""How results and narration reach a terminal: stdout is the result, stderr is narration, colour only where wanted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from aim_engine.errors import AimError, CacheError

_CODES = {"good": "32", "bad": "31", "dim": "2", "strong": "1", "warn": "33"}


class Terminal:
    """Writes to stdout and stderr; paints where the stream is a terminal and NO_COLOR is not set (no-color.org)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._can_move = environment.get("TERM", "dumb") != "dumb"
        self._wanted = not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        self._forced = bool(environment.get("FORCE_COLOR")) and not environment.get("NO_COLOR")

    def paint(self, style: str, text: str) -> str:
        """Colour for stdout."""
        return self._painted(sys.stdout, style, text)

    def paint_narration(self, style: str, text: str) -> str:
        """Colour for stderr."""
        return self._painted(sys.stderr, style, text)

    @property
    def is_lively(self) -> bool:
        """Whether a terminal may be drawn on: not on one that can only print."""
        return self._can_move

    def result(self, text: str) -> None:
        encoding = sys.stdout.encoding or "utf-8"
        try:
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - or Python would complain again at exit
            raise CacheError(
                f"the result cannot be written to stdout: {error.strerror}", hint="write it where there is room"
            ) from None

    def result_json(self, value: Any) -> None:
        self.result(_json(value, sys.stdout, indent=2))

    def say(self, text: str) -> None:
        with suppress(OSError):  # nobody listens, or there is no room; the exit code still tells
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        self.say(f"{self._painted(sys.stderr, 'warn', 'warning')}: {text}")

    def fail(self, error: AimError) -> None:
        """The error for people, then the same as the last line, in JSON, for programs."""
        self.say(f"{self._painted(sys.stderr, 'bad', 'error')}: {error.message}")
        for detail in error.details:
            self.say(f"  {detail}")
        if error.hint:
            self.say(f"{self._painted(sys.stderr, 'strong', 'remedy')}: {error.hint}")
        self.say(_json(error.as_json(), sys.stderr))

    def _painted(self, stream: TextIO, style: str, text: str) -> str:
        if not (self._forced or (self._wanted and stream.isatty())):
            return text
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def _json(value: Any, stream: TextIO, indent: int | None = None) -> str:
    """As people read it where the stream can show that, else with escapes, so that it is JSON everywhere."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, default=str)
    return text
