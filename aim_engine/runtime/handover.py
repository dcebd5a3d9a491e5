"""From the planner to the parent: a plan in, and this very process becomes the slim parent (`boot`).

The exec gives the planner's memory back and keeps its pid, which in a container is 1. Starts supervisord ahead of time
and checks what a start would stumble over; decides nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, NoReturn

from aim_engine.runtime import processes
from aim_engine.runtime.prepare import prepare
from aim_engine.runtime.signals import HELD
from aim_engine.runtime.spare import INTERPRETER, PROGRAMS, Spare, make_spare


def begin() -> Spare:
    """Call this first thing in `serve`, and give what it returns to `run`.

    From here on a request to stop waits until the parent can answer it: held signals stay pending across execve
    (execve(2)). Without this, pid 1 would lose them while it plans: the kernel drops signals to pid 1 that have no
    handler. And supervisord gets its modules ready while the plan is being made.
    """
    hold_signals()
    return make_spare()


def hold_signals() -> None:
    """Block the signals that the parent waits for."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def run(plan: dict[str, Any], spare: Spare) -> NoReturn:
    """Become the server's parent. Returns only by raising.

    Raises:
        InputError: a port or the state folder cannot be used.
        CacheError: a folder cannot be written.
    """
    state, lock = prepare(plan)
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
