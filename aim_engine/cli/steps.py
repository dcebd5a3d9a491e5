"""The steps of a long command on stderr: a tick, what came of it and its time; a bar where it takes long.

On a terminal the step that runs is one line that is written again and again; elsewhere a line when it has ended, and
one for each new word on the way.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

from aim_engine.cli.terminal import Terminal

_BAR = 24
_REDRAW_SECONDS = 0.1
_GIB = 2**30
_TICK_SECONDS = 0.5
_NAMES_WIDTH = 8


class Steps:
    """Told by a launch (`deploy.launch.Teller`). To be left by `with`, so that no unfinished line stays."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._live = sys.stderr.isatty() and terminal.is_lively
        encoding = sys.stderr.encoding or "ascii"
        self._can_draw = _can_encode("✓━", encoding)
        self._step, self._begun, self._drawn, self._words = "", 0.0, 0.0, ""
        self._last = (0, 0)
        self._drawing, self._over = threading.RLock(), threading.Event()

    def __enter__(self) -> Steps:
        if self._live:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def _tick(self) -> None:
        """The seconds of a step that says nothing new."""
        while not self._over.wait(_TICK_SECONDS):
            with self._drawing:
                if self._step:
                    self._draw(f"{self._bar(*self._last)} {self._words}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._wipe()
        if kind is not None and self._step:
            mark = self._terminal.paint_narration("bad", "✗" if self._can_draw else "x")
            self._terminal.say(f"{mark} {self._step:<{_NAMES_WIDTH}} {self._seconds()}")
        self._step = ""

    def begin(self, step: str) -> None:
        self._wipe()
        self._begun, self._drawn, self._words, self._last = time.monotonic(), 0.0, "", (0, 0)
        self._step = step
        self._draw("")

    def progress(self, done: int, total: int, words: str) -> None:
        self._last = (done, total)
        if self._live:
            if time.monotonic() - self._drawn >= _REDRAW_SECONDS:
                self._draw(f"{self._bar(done, total)} {words}")
        elif words != self._words:
            self._terminal.say(f"  {self._step:<{_NAMES_WIDTH}} {words}{self._share(done, total)}")
        self._words = words

    def end(self, words: str) -> None:
        with self._drawing:
            self._wipe()
            mark = self._terminal.paint_narration("good", "✓" if self._can_draw else "+")
            self._terminal.say(f"{mark} {self._step:<{_NAMES_WIDTH}} {words} {self._seconds()}")
            self._step = ""

    def warn(self, text: str) -> None:
        with self._drawing:
            self._wipe()
            self._terminal.warn(text)

    def _seconds(self) -> str:
        return self._terminal.paint_narration("dim", f"({time.monotonic() - self._begun:.1f} s)")

    def _share(self, done: int, total: int) -> str:
        return f", {done / _GIB:,.2f} of {total / _GIB:,.2f} GiB" if total else ""

    def _bar(self, done: int, total: int) -> str:
        if not total:
            return f"{time.monotonic() - self._begun:4.0f} s"
        filled = min(_BAR, _BAR * done // total)
        full, empty = ("━", "·") if self._can_draw else ("#", ".")
        return f"{full * filled}{empty * (_BAR - filled)} {done * 100 // total:3d}%{self._share(done, total)}"

    def _draw(self, words: str) -> None:
        if self._live and not self._over.is_set():
            width = shutil.get_terminal_size().columns - 1
            self._put(f"\r\x1b[K{f'  {self._step:<{_NAMES_WIDTH}} {words}'[:width]}")
            self._drawn = time.monotonic()

    def _wipe(self) -> None:
        if self._live:
            self._put("\r\x1b[K")

    @staticmethod
    def _put(text: str) -> None:
        with suppress(OSError):  # the terminal was closed
            sys.stderr.write(text)
            sys.stderr.flush()


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
