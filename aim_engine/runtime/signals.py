"""Signals as something to wait for, not something that interrupts: held signals in, `asked` and reaped children out.

Nothing is lost and nothing races: every signal of interest stays blocked and is fetched by sigtimedwait(2).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from aim_engine.runtime.awake import Awake

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
# a blocked signal is queued even where its default is to be ignored, as SIGCHLD's is (kernel/signal.c, sig_ignored)
HELD = STOPPING | {signal.SIGCHLD}


class Forced(Exception):  # noqa: N818 - not an error
    """A second request to stop: do not wait any longer."""


class Signals:
    """What was asked of this process. `asked` is the first signal that wants it to stop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.asked: int | None = None
        self._clock = clock

    def wait(self, seconds: float | None, until: Callable[[], bool], *, step: float = 0.05) -> bool:
        """Wait until `until` holds (True), or time is up, or a first request to stop came (False).

        Children are reaped on the way. Time in which everything was frozen does not count.

        Raises:
            Forced: a stop was asked for before, and is asked for again.
        """
        awake = Awake(self._clock)
        deadline = awake.now() + seconds if seconds is not None else None
        already = self.asked is not None
        while True:
            if until():
                return True
            left = deadline - awake.now() if deadline is not None else 3600.0
            if left <= 0 or (self.asked is not None and not already):
                return False
            # without a time limit the end of a child is what is waited for: no need to look around
            self._take(min(left, step) if deadline is not None else left)

    def pause(self, seconds: float) -> None:
        """Let time pass, reaping; requests to stop are noted only."""
        self._take(seconds, force=False)

    def _take(self, seconds: float, *, force: bool = True) -> None:
        taken = signal.sigtimedwait(HELD, seconds)
        if taken is not None and taken.si_signo in STOPPING:
            if self.asked is None:
                self.asked = taken.si_signo
            elif force:
                raise Forced
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
