"""A clock that stands still while the whole container does (`docker pause`, a suspended machine).

In: a clock, and calls that come at least once a second. Out: seconds in which something could be done. Whoever calls so
often and then comes far too late was frozen, and so was everything around it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TICK_SECONDS = 1.0
# A busy machine may well be this late; counting that as time to work in is right.
_LATEST_SECONDS = 3.0


class Awake:
    """May be asked from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._frozen = 0.0
        self._lock = threading.Lock()

    def tick(self) -> float:
        """To be called at least every `TICK_SECONDS`; how long everything was frozen since the last call."""
        with self._lock:
            now = self._clock()
            late, self._last = now - self._last, now
            if late <= _LATEST_SECONDS:
                return 0.0
            self._frozen += late - TICK_SECONDS
            return late - TICK_SECONDS

    def now(self) -> float:
        """The clock's time without what was frozen."""
        self.tick()
        with self._lock:
            return self._last - self._frozen
