"""How results and narration reach a terminal: stdout is the result, stderr is narration, colour only where wanted."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import zip_longest
from typing import Any, Literal, TextIO

from aim_engine.errors import AimError, CacheError

_CODES = {"good": "32", "bad": "31", "dim": "2", "strong": "1", "warn": "33"}
_OURS = re.compile(rf"\x1b\[(?:0|{'|'.join(_CODES.values())})m")
# What steers a terminal or shows one text as another: control characters of both kinds (but for tab and the end of a
# line), directions turned round, ends of lines that are none, halves of characters.
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Terminal:
    """Writes to stdout and stderr; paints where the stream is a terminal and NO_COLOR is not set (no-color.org)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._can_move = environment.get("TERM", "dumb") != "dumb"
        self._wanted = not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        self._forced = bool(environment.get("FORCE_COLOR")) and not environment.get("NO_COLOR")
        self._copy: Callable[[bytes], None] = lambda _lines: None

    def copy_narration(self, take: Callable[[bytes], None]) -> None:
        """From now on hand what goes to stderr to `take` as well, without colours."""
        self._copy = take

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
        """A result for people. Names that others chose may be in it, so nothing but our colours steers the terminal."""
        self._write(self._shown(sys.stdout, text))

    def _write(self, text: str) -> None:
        encoding = sys.stdout.encoding or "utf-8"
        try:
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritten(error) from None

    def result_json(self, value: Any) -> None:
        self._write(_json(value, sys.stdout, indent=2))

    def say(self, text: str) -> None:
        self._tell(self._shown(sys.stderr, text))

    def warn(self, text: str) -> None:
        self.say(f"{self._painted(sys.stderr, 'warn', 'warning')}: {_as_one(text)}")

    def fail(self, error: AimError) -> None:
        """The error for people, then the same as the last line, in JSON, for programs."""
        self.say(f"{self._painted(sys.stderr, 'bad', 'error')}: {_as_one(error.message)}")
        for detail in error.details:
            self.say(f"  {_as_one(detail)}")
        if error.hint:
            self.say(f"{self._painted(sys.stderr, 'strong', 'remedy')}: {_as_one(error.hint)}")
        self.last_words(error.as_json())

    def last_words(self, words: Mapping[str, Any]) -> None:
        """One line for programs."""
        self._tell(_json(words, sys.stderr))

    def _tell(self, text: str) -> None:
        self._copy(_OURS.sub("", text).encode("utf-8", "backslashreplace") + b"\n")
        with suppress(OSError):  # nobody listens, or there is no room; the exit code still tells
            print(text, file=sys.stderr, flush=True)

    def _shown(self, stream: TextIO, text: str) -> str:
        """With escapes for what would steer a terminal, save our colours: they stay on a stream that has colours."""
        if not any(self._paints(each) for each in (sys.stdout, sys.stderr)):
            return _STEERS.sub(_escape, text)
        pieces, colours = _OURS.split(text), _OURS.findall(text) if self._paints(stream) else []
        shown = [_STEERS.sub(_escape, piece) for piece in pieces]
        return "".join(piece + colour for piece, colour in zip_longest(shown, colours, fillvalue=""))

    def _painted(self, stream: TextIO, style: str, text: str) -> str:
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self._paints(stream) else text

    def _paints(self, stream: TextIO) -> bool:
        return self._forced or (self._wanted and stream.isatty())


def unwritten(error: OSError, stream: Literal["stdout", "stderr"] = "stdout") -> CacheError:
    """The error for a stream that takes no result; nothing is written to it any more."""
    setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - or Python would complain again at exit
    return CacheError(
        f"the result cannot be written to {stream}: {error.strerror}",
        hint="write it where there is room, or > /dev/null",
    )


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _as_one(text: str) -> str:
    """Further lines of a message are set in: none of them can pose as a line of ours."""
    return text.replace("\n", "\n    ")


def _json(value: Any, stream: TextIO, indent: int | None = None) -> str:
    """As people read it where the stream can show that, else with escapes, so that it is JSON everywhere."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    text = _STEERS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, default=str)
    return text
