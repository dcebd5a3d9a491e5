"""From the planner to the parent: a plan in, and this very process becomes the slim parent (`boot`).

The exec gives the planner's memory back and keeps its pid, which in a container is 1. Starts supervisord ahead of time
and checks what a start would stumble over; decides nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, NoReturn

from aim_engine.errors import AimError
from aim_engine.hardware.preflight.check import this_site
from aim_engine.hardware.preflight.ports import check_port
from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.again import ended_for_good
from aim_engine.runtime.log import Log
from aim_engine.runtime.prepare import prepare, take_folder
from aim_engine.runtime.signals import HELD, STOPPING
from aim_engine.runtime.spare import INTERPRETER, PROGRAMS, Spare, make_spare
from aim_engine.runtime.state import State


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
        AimError: something is wrong that the start could not survive, and nobody asked to stay up nevertheless.
    """
    try:
        if this_site(os.environ).in_container:  # elsewhere a person starts it again, who may have mended something
            _refuse_again(plan)
        state, lock = prepare(plan)
    except AimError as error:
        if plan["runtime"]["keep_alive"]:
            stay(error, plan)
        raise
    _become_parent(state, lock, spare.as_arguments())


def _refuse_again(plan: Mapping[str, Any]) -> None:
    if error := ended_for_good(plan["command"], State(plan["runtime"]["state_dir"]), time.time()):
        raise error


def stay(error: AimError, plan: Mapping[str, Any]) -> None:
    """Become a parent that has nothing to start and tells why over the health port, as AIM_KEEP_ALIVE asks.

    `plan` is what there is of one: its `runtime` says where to listen and how to log. Returns where the state folder or
    the health port is what is wrong: then there is no place to tell it from.
    """
    runtime = plan["runtime"]
    try:
        state, lock = take_folder(runtime["state_dir"])
        check_port(runtime["host"], runtime["health_port"], "AIM_HEALTH_PORT")
        state.remove(*files.OF_ONE_RUN)
        state.write(files.PLAN, plan)
        state.write(files.WORDS, error.as_json())
    except (AimError, OSError) as other:
        log = Log("boot", level=runtime["log_level"], style=runtime["log_format"])
        log.error(f"cannot stay up as AIM_KEEP_ALIVE asks: {other}")
        return
    _become_parent(state, lock, [])


def _become_parent(state: State, lock: int, spare: list[str]) -> NoReturn:
    # held from here on: pending signals survive the exec (execve(2)), and the parent answers them
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    age = _age_seconds()
    state.record(phase="planning", at=time.time() - age, monotonic=time.monotonic() - age)
    if not spare:
        state.record(phase="failed")
    sys.stdout.flush()
    sys.stderr.flush()
    os.set_inheritable(lock, True)
    os.execve(  # noqa: S606 - no shell, by design
        sys.executable, [*INTERPRETER, PROGRAMS, "boot", state.folder, str(lock), *spare], dict(os.environ)
    )


def _age_seconds() -> float:
    """Since this process began; the kernel counts that in ticks since the machine's boot (proc(5), starttime)."""
    identity = processes.identify(os.getpid())
    if identity is None:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - identity.start_ticks / os.sysconf("SC_CLK_TCK")
