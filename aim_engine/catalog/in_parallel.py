"""Work and its items in, the results in the items' order out, a bounded number at once; given up where nothing is heard
for too long.

The threads are daemons, because neither the look-up of a name (getaddrinfo(3)) nor a silent peer knows our time limit,
and a program that has given up must be able to end. Knows nothing of what the work is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 16  # at a hub 100 ms away these read 100 headers in about a second
_TOLD_SECONDS = 0.5  # how often it is told how far it has come, where nothing changes


class SilenceError(Exception):
    """Nothing was heard for the time that was to be waited."""


def in_parallel(
    work: Callable[[Item, Callable[[], None]], Result], items: Sequence[Item], *, seconds: float,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:  # fmt: skip
    """Do the work for all items; `work` may call its second argument to say that it is heard of. `told` gets,
    twice a second at least, how many are done of how many.

    Raises:
        SilenceError: nothing was heard, and nothing done, for so many seconds.
        Exception: the first that the work raised; what had not been begun then is left.
    """
    crew = _Crew(work, items)
    for _ in range(min(THREADS, len(items))):
        threading.Thread(target=crew.labour, daemon=True).start()
    try:
        crew.wait(seconds, told)
    finally:
        crew.stop()
    return [crew.results[index] for index in range(len(items))]


class _Crew(Generic[Item, Result]):
    """What the threads share."""

    def __init__(self, work: Callable[[Item, Callable[[], None]], Result], items: Sequence[Item]) -> None:
        self._work, self._items = work, items
        self.changed = threading.Condition()
        self.heard_at = time.monotonic()
        self.next = 0
        self.results: dict[int, Result] = {}
        self.failure: list[Exception] = []

    def wait(self, seconds: float, told: Callable[[int, int], None]) -> None:
        """Until all is done. It ends at once on ^C, for waiting on a condition can be interrupted."""
        total = len(self._items)
        with self.changed:
            while not self.failure and len(self.results) < total:
                told(len(self.results), total)
                left = self.heard_at + seconds - time.monotonic()
                if left <= 0:
                    raise SilenceError
                self.changed.wait(min(left, _TOLD_SECONDS))
        if self.failure:
            raise self.failure[0]

    def stop(self) -> None:
        """Nobody begins anything more."""
        self.next = len(self._items)

    def heard(self) -> None:
        self.heard_at = time.monotonic()  # one word, so no lock; who waits looks again when its time is over

    def labour(self) -> None:
        while (index := self._take()) is not None:
            try:
                result = self._work(self._items[index], self.heard)
            except Exception as error:
                with self.changed:
                    self.failure.append(error)
                    self.changed.notify_all()
                return
            with self.changed:
                self.results[index] = result
                self.heard_at = time.monotonic()
                self.changed.notify_all()

    def _take(self) -> int | None:
        with self.changed:
            if self.failure or self.next >= len(self._items):
                return None
            self.next += 1
            return self.next - 1
