"""How far the reading of a hub's model has come, on stderr: nothing of what is quick, then a bar, or lines where there
is no terminal to draw on. Told numbers; knows no hub.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType

from aim_engine.cli.terminal import Terminal

_QUICK_SECONDS = 1.0
_LINES_APART_SECONDS = 10.0
_BAR = 24


class HubBar:
    """To be called with the number of files that are read, and of all; to be left by `with`, so that no bar stays."""

    def __init__(self, model: str | None, say: Callable[[str], None], *, lively: bool) -> None:
        self._model, self._say, self._lively = model, say, lively
        self._begun = time.monotonic()
        self._next_line = self._begun + _QUICK_SECONDS
        self._drawn = False

    @classmethod
    def on(cls, terminal: Terminal, model: str | None) -> HubBar:
        return cls(model, terminal.say, lively=sys.stderr.isatty() and terminal.is_lively)

    def __enter__(self) -> HubBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._write("")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next_line:
            return
        words = f"reading {self._model} at the hub: {done} of {total} files" if total > 1 else (
            f"asking the hub for {self._model}")  # fmt: skip
        if self._lively:
            self._drawn = True
            filled = min(_BAR, _BAR * done // total) if total > 1 else 0
            bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] " if total > 1 else ""
            self._write(f"  {bar}{words} ({now - self._begun:.0f} s)"[: shutil.get_terminal_size().columns - 1])
            return
        self._next_line = now + _LINES_APART_SECONDS
        self._say(f"{words} ({now - self._begun:.0f} s)")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
