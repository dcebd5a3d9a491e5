"""From the planner to the parent: a plan in, and this very process becomes the slim parent (`boot`).

The exec gives the planner's memory back and keeps its pid, which in a container is 1. Starts supervisord ahead of time
and checks what a start would stumble over; decides nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

from aim_engine.runtime import processes
from aim_engine.runtime.prepare import prepare
from aim_engine.runtime.signals import HELD, STOPPING
from aim_engine.runtime.spare import INTERPRETER, PROGRAMS, Spare, make_spare


def begin() -> Spare:
    """Call this first thing in `serve`, and give what it returns to `run`.

    From here on a request to stop ends the planning by `StopAskedError`. Without a handler pid 1 would never see it:
    the kernel drops signals to pid 1 that have none. What came earlier was held for us by the image's entry point, and
    is answered now. And supervisord gets its modules ready while the plan is made.
    """
    for signum in STOPPING:
        signal.signal(signum, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    return make_spare()


class StopAskedError(BaseException):
    """A signal asked to stop before there was anything to stop. No `Exception`: nothing is to take it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.words = {
            "class": "Drained",
            "code": 0,
            "message": f"stopped as {signal.Signals(signum).name} asked, while the plan was being made",
            "hint": "",
            "retryable": False,
        }


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise StopAskedError(signum)


def run(plan: dict[str, Any], spare: Spare) -> NoReturn:
    """Become the server's parent. Returns only by raising.

    Raises:
        InputError: a port or the state folder cannot be used.
        CacheError: a folder cannot be written.
    """
    state, lock = prepare(plan)
    # held from here on: pending signals survive the exec (execve(2)), and the parent answers them
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    age = _age_seconds()
    state.record(phase="planning", at=time.time() - age, monotonic=time.monotonic() - age)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # noqa: S606 - no shell, by design
        sys.executable,
        [*INTERPRETER, PROGRAMS, "boot", state.folder, str(lock), *spare.as_arguments()],
        dict(os.environ),
    )


def _age_seconds() -> float:
    """Since this process began; the kernel counts that in ticks since the machine's boot (proc(5), starttime)."""
    identity = processes.identify(os.getpid())
    if identity is None:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - identity.start_ticks / os.sysconf("SC_CLK_TCK")
