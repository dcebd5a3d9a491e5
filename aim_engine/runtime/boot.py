"""The parent of everything in the container: a plan in, a running server, and at the end the right exit code.

It starts supervisord, passes its output on, waits for a signal or for the end, and leaves nothing behind. Why a server
ended is decided in `watch`; the parent only repeats it. How the planner becomes this process is in `handover`.
"""

from __future__ import annotations

import os
import signal
import time

from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.contract import Contract, read_contract
from aim_engine.runtime.control import Control
from aim_engine.runtime.ending import Ending, say_last_words
from aim_engine.runtime.log import Log, copy_to
from aim_engine.runtime.log_copy import LogCopy, copy_of
from aim_engine.runtime.relay import Relay
from aim_engine.runtime.signals import HELD, Signals
from aim_engine.runtime.spare import Spare
from aim_engine.runtime.state import State
from aim_engine.runtime.supervisord import CONFIGURATION

# For supervisord and then the server's process to be there; on a busy machine they take a second together.
_START_SECONDS = 30.0


def main(arguments: list[str]) -> int:
    """The slim parent: `STATE_DIR LOCK` and the spare's arguments; without those there is nothing to start any more."""
    folder, lock, *spare = arguments
    os.set_inheritable(int(lock), False)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)  # they are, since before the exec
    state = State(folder)
    if not spare:
        from aim_engine.runtime.stay import stay  # here: few runs need it

        return stay(state)
    plan = state.read(files.PLAN) or {}
    contract = read_contract(plan)
    copy = copy_of(plan["runtime"])
    if copy:
        copy.start()
        copy_to(copy.take)
    code = Parent(state, contract, Spare.from_arguments(spare), copy).run()
    if copy:
        copy.finish()
    return code


class Parent:
    """One run, from supervisord's start to the exit code."""

    def __init__(self, state: State, contract: Contract, spare: Spare, copy: LogCopy | None = None) -> None:
        self._state = state
        self._contract = contract
        self._spare = spare
        self._log = Log("boot", level=contract.log_level, style=contract.log_format)
        self._control = Control(state.path(files.SOCKET))
        self._signals = Signals()
        self._copy = copy

    def run(self) -> int:
        processes.become_subreaper()
        self._state.write(files.RUN, {"pid": os.getpid(), "at": time.time(), "canary": os.urandom(16).hex()})
        self._state.record(phase="starting")
        daemon, relay = self._start()
        ending = Ending(self._state, self._contract, signals=self._signals, log=self._log, daemon=daemon)
        try:
            self._wait_for_the_end(daemon)
            words = ending.drain() if self._signals.asked else ending.after_the_end()
        finally:
            ending.clean()
        relay.join(2)
        relay.end_lines()
        if words["code"] == 0:  # engines log tracebacks at the cleanest of ends
            self._log.info("stopped: drained, exit code 0")
        say_last_words(self._state, words, style=self._contract.log_format)
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
        """Let the waiting supervisord go, and pass on what it and its children print."""
        self._state.write_text(files.CONFIG, CONFIGURATION)
        relay = Relay(
            engine=self._spare.engine,
            programs=self._spare.programs,
            style=self._contract.log_format,
            copy=self._copy.take if self._copy else None,
        )
        relay.start()
        self._spare.start(self._state.folder)
        return processes.identify(self._spare.pid) or processes.Identity(self._spare.pid, 0), relay
