"""The watch: supervisord's events in; out: another attempt, or the last words and the end.

It sees the server's log lines and its exits, names the failure (`failures`), decides (`attempts`), cleans up after the
dead and starts the next one. What it knows is in files, so that it can itself be started again at any time. It never
talks to the engine.
"""

from __future__ import annotations

import math
import os
import re
import select
import signal
import time
from typing import Any

from aim_engine.backends.figures import with_line
from aim_engine.errors import AimError, EngineHungError, EngineStartTimeoutError
from aim_engine.runtime import out_of_memory, processes
from aim_engine.runtime import state as files
from aim_engine.runtime.attempts import decide
from aim_engine.runtime.awake import Awake
from aim_engine.runtime.contract import Contract, read_contract
from aim_engine.runtime.control import Control, ControlError, Program
from aim_engine.runtime.events import DONE, READY, Event, Lines, Reader
from aim_engine.runtime.failures import Failure, classify
from aim_engine.runtime.history import History
from aim_engine.runtime.log import Log
from aim_engine.runtime.processes import Identity, Process
from aim_engine.runtime.progress import stage_of
from aim_engine.runtime.remains import Remains
from aim_engine.runtime.state import State
from aim_engine.runtime.supervisord import STATE_VARIABLE

_TICK_SECONDS = 0.5
_HURRIED_TICK_SECONDS = 0.02
_NOTE_EVERY_SECONDS = 5.0
_LAST_LINES_SECONDS = 3.0  # on a busy machine a flood of lines is still on its way
_STARTS_IN_ALL = 3.0  # the time of so many starts is what all attempts may take together
_ENDED = ("PROCESS_STATE_EXITED", "PROCESS_STATE_FATAL", "PROCESS_STATE_STOPPED", "PROCESS_STATE_UNKNOWN")
_EXIT_LINE = re.compile(r"exited: server \((?P<how>.+?)(?:; (?:not )?expected)?\)")


def main(arguments: list[str]) -> int:
    """Watch until supervisord closes our stdin."""
    del arguments
    state = State(os.environ[STATE_VARIABLE])
    contract = read_contract(state.read(files.PLAN) or {})
    log = Log("watch", level=contract.log_level, style=contract.log_format)
    Watch(state, contract, Control(state.path(files.SOCKET)), log).run()
    return 0


class Watch:
    """One watch over one server at a time."""

    def __init__(self, state: State, contract: Contract, control: Control, log: Log) -> None:
        self._state = state
        self._contract = contract
        self._control = control
        self._log = log
        self._daemon = os.getppid()
        self._remains = Remains(state, int((state.read(files.RUN) or {}).get("pid", 0)))
        self._history = History(state, given_up=contract.given_up)
        self._reader = Reader()
        self._lines = Lines()
        self._given_up = state.exists(files.WORDS)
        self._figures: dict[str, int] = state.read(files.FIGURES) or {}
        self._server: Identity | None = None
        self._pidfd: int | None = None
        self._gone_since: float | None = None
        self._ended_event = False
        self._reason: AimError | None = None  # why we ended the server ourselves
        self._noted_at = 0.0
        self._oom_kills = out_of_memory.kills()

    def run(self) -> None:
        os.write(1, READY)
        awake = Awake()
        while self._listen(_TICK_SECONDS if self._gone_since is None else _HURRIED_TICK_SECONDS):
            self._history.frozen(awake.tick())
            self._look()

    # --- what comes in

    def _listen(self, seconds: float) -> bool:
        """Take what supervisord says; False when it is gone."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        if self._pidfd is not None and self._gone_since is None:
            # supervisord itself looks for ended children once a second; this tells at once
            poll.register(self._pidfd, select.POLLIN)
        for descriptor, _ in poll.poll(seconds * 1000):
            if descriptor != 0:
                self._gone_since = time.monotonic()
                continue
            data = os.read(0, 262144)
            if not data:
                return False
            for event in self._reader.feed(data):
                self._hear(event)
                os.write(1, DONE + READY)
        return True

    def _hear(self, event: Event) -> None:
        if event.program == "server" and event.name.startswith("PROCESS_LOG"):
            for line in self._lines.add(event.data):
                if stage := stage_of(line):
                    self._state.write(files.PROGRESS, {"stage": stage, "at": time.time()})
                self._note_figures(line)
        elif event.program == "server" and event.name in _ENDED:
            self._ended_event = True
            self._gone_since = self._gone_since or time.monotonic()
        elif event.program == "server" and event.name == "PROCESS_STATE_STARTING":
            self._lines.clear()
        elif event.program == "sidecar" and event.name == "PROCESS_STATE_FATAL":
            self._log.error("the health sidecar cannot be started")

    def _note_figures(self, line: str) -> None:
        """Only while it starts: what a request makes it write later is no figure of its own."""
        told = with_line(self._figures, line)
        if told != self._figures and not self._state.exists(files.READY):
            self._figures = dict(told)
            self._state.write(files.FIGURES, self._figures)

    # --- the server that runs

    def _look(self) -> None:
        if self._given_up or self._state.exists(files.STOP):
            return
        if self._history.retry_at is not None:
            if time.monotonic() >= self._history.retry_at:
                self._start_again()
        elif self._server is None or self._gone_since is not None:
            self._look_for_server()
        else:
            self._look_at_limits()
            if time.monotonic() - self._noted_at > _NOTE_EVERY_SECONDS:
                self._noted_at = time.monotonic()
                self._remains.note(self._below())

    def _look_for_server(self) -> None:
        """Find the server that runs, or see that the one we knew has ended."""
        found = processes.read_identity(self._state.path(files.SERVER))
        if found is not None and found != self._server and processes.is_alive(found):
            self._begin(found)
            return
        program = self._ask()
        if self._gone_since is None:
            if found is None and (program is None or program.runs or program.state == "STOPPED"):
                return  # the first one is still to come
            self._gone_since = time.monotonic()
        # its last lines come before the event that says it has ended
        waited = time.monotonic() - self._gone_since
        if self._ended_event or (waited > _LAST_LINES_SECONDS and program is not None and not program.runs):
            self._ended(program.exit_status if program else -1)

    def _ask(self) -> Program | None:
        """What supervisord knows of the server. Asking also wakes it."""
        try:
            return self._control.program("server")
        except ControlError as error:
            self._log.debug(str(error))
            return None

    def _begin(self, server: Identity) -> None:
        self._forget_server()
        self._server = server
        try:
            self._pidfd = os.pidfd_open(server.pid)
        except OSError:
            self._gone_since = time.monotonic()
        self._history.begin(server.pid, oom_kills=out_of_memory.kills())

    def _forget_server(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._pidfd, self._server, self._gone_since, self._ended_event = None, None, None, False

    def _look_at_limits(self) -> None:
        health = self._state.read(files.HEALTH) or {}
        limit = self._contract.start_timeout_seconds
        if self._ready_seconds() is None:
            if self._history.seconds() > limit:
                said = health.get("reason") or "it said nothing"
                hint = "set AIM_START_TIMEOUT higher if the model is large or the disk slow"
                self._end_server(
                    EngineStartTimeoutError(f"the engine was not ready after {limit:g} s: {said}", hint=hint)
                )
        elif health.get("hung") and health.get("pid") == self._history.pid:
            said = str(health.get("reason") or "the engine hangs")
            self._end_server(EngineHungError(said, hint="look at the driver's log (dmesg)"))

    def _ready_seconds(self) -> float | None:
        """How long the newest attempt has been ready; None when it never was."""
        ready: dict[str, Any] = self._state.read(files.READY) or {}
        return time.monotonic() - float(ready["monotonic"]) if ready.get("pid") == self._history.pid else None

    def _end_server(self, reason: AimError) -> None:
        self._log.error(reason.message)
        self._reason = reason
        self._clean()
        self._gone_since = time.monotonic()

    # --- the server that has ended

    def _ended(self, status: int) -> None:
        if self._state.exists(files.STOP):  # it was asked for; boot sees to the rest
            return
        found = processes.read_identity(self._state.path(files.SERVER))
        self._history.begin(
            found.pid if found else 0, oom_kills=self._oom_kills
        )  # it may have ended before it was looked at even once
        ready_seconds = self._ready_seconds()
        failure = self._judge(status, was_ready=ready_seconds is not None)
        self._reason = None
        self._log.error(f"attempt {self._history.end(failure)}: {failure.error.message}")
        self._forget_server()
        self._clean()
        step = decide(
            failure,
            retries_used=self._history.retries_used,
            max_retries=self._contract.max_retries,
            ready_seconds=ready_seconds or 0.0,
            previous=self._history.previous_message,
            ladder=self._contract.ladder,
            taken=self._history.rungs,
            seconds_left=math.inf if ready_seconds else self._seconds_left(),
        )
        self._history.retries_used = step.retries_used
        if step.delay_seconds is None:
            self._give_up(failure.error)
            return
        if step.rung is not None:
            self._history.rungs.append(step.rung.name)
            self._log.warning(f"trying again in {step.delay_seconds:g} s, giving up {step.rung.gives_up}")
        else:
            most = self._contract.max_retries
            self._log.warning(f"trying again in {step.delay_seconds:g} s (retry {step.retries_used} of {most})")
        self._history.retry_at = time.monotonic() + step.delay_seconds
        self._history.save()

    def _seconds_left(self) -> float:
        """Of the time for all the attempts that have not been ready: a few starts that end late, many that end soon."""
        return _STARTS_IN_ALL * self._contract.start_timeout_seconds - self._history.spent_seconds

    def _judge(self, status: int, *, was_ready: bool) -> Failure:
        if self._reason is not None:
            return Failure(error=self._reason, kind=self._reason.error_class)
        return classify(
            self._lines.last(),
            status=status,
            how=self._how_it_ended(),
            was_ready=was_ready,
            out_of_memory=out_of_memory.since(self._history.oom_kills),
            model=self._contract.model,
        )

    def _how_it_ended(self) -> str:
        """supervisord tells the signal in its log only: its events and its RPC say -1 for all of them."""
        try:
            with open(self._state.path(files.DAEMON_LOG), encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                found = _EXIT_LINE.findall(file.read())
        except OSError:
            return ""
        return found[-1].replace("terminated", "killed") if found and "terminated" in found[-1] else ""

    def _below(self) -> list[Process]:
        return self._remains.of_group(self._history.pid, daemon=self._daemon)

    def _clean(self) -> None:
        if not self._remains.end(self._below):
            self._log.warning("a process of the engine does not end; it may be waiting for the driver")

    def _start_again(self) -> None:
        self._history.retry_at = None
        self._lines.clear()
        self._figures = {}
        self._state.remove(files.PROGRESS, files.READY, files.FIGURES, files.MEMORY)
        self._history.save()
        try:
            self._control.start("server")
        except ControlError as error:
            self._log.error(f"cannot start the server again: {error}")
            self._history.retry_at = time.monotonic() + 1.0

    def _give_up(self, error: AimError) -> None:
        self._given_up = True
        self._history.save()
        self._state.write(files.WORDS, error.as_json())
        if self._contract.keep_alive:
            self._log.error("staying up as AIM_KEEP_ALIVE asks; the health sidecar tells the reason")
            return
        try:
            self._control.shutdown()
        except ControlError:
            os.kill(self._daemon, signal.SIGTERM)
