"""A look at a disk that may not answer: something to do in, what came of it out, without ever waiting for long.

A call to a network disk that is gone waits in the kernel and cannot be broken off; whoever has to notice that must not
make it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

Result = TypeVar("Result")

_PATIENCE_SECONDS = 0.2


class Aside(Generic[Result]):
    """Does `work` in a thread of its own, one at a time. `newest` is what the last one that came back gave."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._thread: threading.Thread | None = None
        self.newest: Result | None = None

    def ask(self) -> Result | None:
        """Do it anew, unless the last one is still at it; what there is after a moment."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="aside", daemon=True)
            self._thread.start()
            self._thread.join(_PATIENCE_SECONDS)
        return self.newest

    def _run(self) -> None:
        with suppress(OSError):  # then what was known stays
            self.newest = self._work()
