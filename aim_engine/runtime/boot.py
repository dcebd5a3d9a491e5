"""The parent of everything in the container: a plan in, a running server, and at the end the right exit code.

`run` is called by the planner and becomes, by execve in the same process, the slim parent `main`; that gives the
planner's memory back. The parent starts supervisord, passes its output on, waits for a signal or for the end, and
leaves nothing behind. Why a server ended is decided in `watch`; the parent only repeats it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, NoReturn

from aim_engine.errors import InternalError
from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.contract import Contract
from aim_engine.runtime.control import Control
from aim_engine.runtime.ending import Ending, say_last_words
from aim_engine.runtime.log import Log
from aim_engine.runtime.prepare import contract_of, prepare
from aim_engine.runtime.relay import Relay
from aim_engine.runtime.signals import HELD, STOPPING, Signals
from aim_engine.runtime.state import State
from aim_engine.runtime.supervisord import CONFIGURATION, PROGRAM_VARIABLE, STATE_VARIABLE

# For supervisord and then the server's process to be there; on a busy machine they take a second together.
_START_SECONDS = 30.0

_PROGRAMS = f"{__file__.rpartition('/')[0]}/__main__.py"


def hold_signals() -> None:
    """From here on a request to stop waits until the parent can answer it. Call it first thing in `serve`.

    Held signals stay pending across execve (execve(2)). Without this, pid 1 would lose them while it plans: the
    kernel drops signals to pid 1 that have no handler.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def run(plan: dict[str, Any]) -> NoReturn:
    """Become the server's parent. Returns only by raising.

    Raises:
        InputError: a port or the state folder cannot be used.
        CacheError: a folder cannot be written.
    """
    hold_signals()
    state, lock = prepare(plan)
    age = _age_seconds()
    state.record(phase="planning", at=time.time() - age, monotonic=time.monotonic() - age)
    folder = _supervisor_folder()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # noqa: S606 - no shell, by design
        sys.executable,
        [*_interpreter(), _PROGRAMS, "boot", state.folder, folder, str(lock)],
        dict(os.environ),
    )


def _age_seconds() -> float:
    """Since this process began; the kernel counts that in ticks since the machine's boot (proc(5), starttime)."""
    identity = processes.identify(os.getpid())
    if identity is None:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - identity.start_ticks / os.sysconf("SC_CLK_TCK")


def _interpreter() -> list[str]:
    # -I: no PYTHON* variable and no folder of the user's; -S: no `site`, see __main__.py
    return [sys.executable, "-I", "-S"]


def _supervisor_folder() -> str:
    from importlib.util import find_spec

    found = find_spec("supervisor")
    if found is None or not found.submodule_search_locations:
        raise InternalError("supervisor is not installed", hint="install aim-engine with its dependencies")
    return os.path.dirname(found.submodule_search_locations[0])  # noqa: PTH120


def main(arguments: list[str]) -> int:
    """The slim parent: `STATE_DIR SUPERVISOR_FOLDER LOCK`."""
    folder, supervisor_folder, lock = arguments
    os.set_inheritable(int(lock), False)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    state = State(folder)
    contract = contract_of(state)
    return Parent(state, contract, supervisor_folder).run()


class Parent:
    """One run, from supervisord's start to the exit code."""

    def __init__(self, state: State, contract: Contract, supervisor_folder: str) -> None:
        self._state = state
        self._contract = contract
        self._supervisor_folder = supervisor_folder
        self._log = Log("boot", level=contract.log_level, style=contract.log_format)
        self._control = Control(state.path(files.SOCKET))
        self._signals = Signals()

    def run(self) -> int:
        processes.become_subreaper()
        self._state.write(files.RUN, {"pid": os.getpid(), "at": time.time()})
        self._state.record(phase="starting")
        daemon, relay = self._start()
        ending = Ending(self._state, self._contract, signals=self._signals, log=self._log, daemon=daemon)
        try:
            self._wait_for_the_end(daemon)
            words = ending.drain() if self._signals.asked else ending.after_the_end()
        finally:
            ending.clean()
        relay.join(2)
        say_last_words(self._state, words)
        return int(words["code"])

    def _wait_for_the_end(self, daemon: processes.Identity) -> None:
        """Return when a stop was asked for, or supervisord has ended, or it never started anything."""

        def ended() -> bool:
            return not processes.is_alive(daemon)

        # supervisord looks around once a second, the first time too: a connection makes it start the server now
        self._signals.wait(_START_SECONDS, lambda: self._control.wake() or ended(), step=0.005)
        started = self._signals.asked or self._signals.wait(
            _START_SECONDS, lambda: self._state.exists(files.SERVER) or ended()
        )
        if started and not self._signals.asked:
            self._signals.wait(None, ended)

    def _start(self) -> tuple[processes.Identity, Relay]:
        """Start supervisord, in a session of its own: a terminal's ^C reaches only the parent."""
        self._state.write_text(files.CONFIG, CONFIGURATION)
        engine, engine_writer = os.pipe()
        programs, programs_writer = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_supervisord(parent, engine_writer, programs_writer)
        os.close(engine_writer)
        os.close(programs_writer)
        relay = Relay(engine=engine, programs=programs, style=self._contract.log_format)
        relay.start()
        return processes.identify(pid) or processes.Identity(pid, 0), relay

    def _become_supervisord(self, parent: int, *writers: int) -> NoReturn:
        try:
            os.setsid()
            os.umask(0o022)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in zip((null, *writers), (0, 1, 2), strict=True):
                os.dup2(source, target)
            processes.die_with_parent(parent, signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
            os.execve(  # noqa: S606 - no shell, by design
                sys.executable,
                [*_interpreter(), _PROGRAMS, "supervisord", self._state.path(files.CONFIG), self._supervisor_folder],
                self._environment(),
            )
        finally:
            os._exit(127)

    def _environment(self) -> dict[str, str]:
        import shlex

        program = shlex.join([*_interpreter(), _PROGRAMS])
        return {**os.environ, STATE_VARIABLE: self._state.folder, PROGRAM_VARIABLE: program}
