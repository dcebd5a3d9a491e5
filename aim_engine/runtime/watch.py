"""The watch: supervisord's events in; out: another attempt, or the last words and the end.

It sees the server's log lines and its exits, names the failure (`failures`), decides (`attempts`), cleans up after the
dead and starts the next one. What it knows is in files, so that it can itself be started again at any time. It never
talks to the engine.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time

from aim_engine.errors import AimError, EngineCrashedError
from aim_engine.runtime import out_of_memory, processes
from aim_engine.runtime import state as files
from aim_engine.runtime.attempts import decide, in_words, staying_up
from aim_engine.runtime.awake import Awake
from aim_engine.runtime.contract import Contract, read_contract
from aim_engine.runtime.control import Control, ControlError, Program
from aim_engine.runtime.daemon_log import how_it_ended
from aim_engine.runtime.events import DONE, READY, Event, Lines, Reader
from aim_engine.runtime.evidence import ENDED_SECONDS, HUNG_SECONDS, Evidence, Scene
from aim_engine.runtime.failures import Failure, classify, ended_by_us
from aim_engine.runtime.history import History
from aim_engine.runtime.limits import Standing, over, seconds_left
from aim_engine.runtime.log import Log
from aim_engine.runtime.members import LOST, OWN_END_SECONDS, Members
from aim_engine.runtime.orphaned import end_the_rest, leave
from aim_engine.runtime.processes import Identity, Process
from aim_engine.runtime.remains import Remains
from aim_engine.runtime.starting import Starting
from aim_engine.runtime.state import State
from aim_engine.runtime.supervisord import STATE_VARIABLE

_TICK_SECONDS = 0.5
_HURRIED_TICK_SECONDS = 0.02
_NOTE_EVERY_SECONDS = 5.0
_LAST_LINES_SECONDS = 3.0  # on a busy machine a flood of lines is still on its way
_ENDED = ("PROCESS_STATE_EXITED", "PROCESS_STATE_FATAL", "PROCESS_STATE_STOPPED", "PROCESS_STATE_UNKNOWN")


def main(arguments: list[str]) -> int:
    """Watch until supervisord closes our stdin."""
    del arguments
    state = State(os.environ[STATE_VARIABLE])
    contract = read_contract(state.read(files.PLAN) or {})
    log = Log("watch", level=contract.log_level, style=contract.log_format)
    signal.signal(signal.SIGTERM, lambda *_: leave(state))
    try:
        Watch(state, contract, Control(state.path(files.SOCKET)), log).run()
    finally:  # also where a dead supervisord no longer takes what we write
        end_the_rest(state)
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
        self._lines = Lines(missed=self._history.goes_on)  # of a watch that was started again
        self._given_up = state.exists(files.WORDS)
        self._starting = Starting(state, contract, os.environ)
        self._server: Identity | None = None
        self._pidfd: int | None = None
        self._gone_since: float | None = None
        self._ended_event = False
        self._ready = (0, 0.0)  # who was, and since when
        self._reason: AimError | None = None  # why we ended the server ourselves
        self._members = Members()
        self._has_lost = False  # a process without which it cannot serve
        self._noted_at = 0.0
        self._evidence = Evidence(state, contract.cache_dir, log, os.environ)
        self._oom_kills = out_of_memory.kills()

    def run(self) -> None:
        os.write(1, READY)
        awake = Awake()
        while self._listen(_TICK_SECONDS if self._gone_since is None else _HURRIED_TICK_SECONDS):
            asleep = awake.tick()
            self._history.frozen(asleep)
            self._starting.frozen(asleep)
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
                self._starting.hear(line)
        elif event.program == "server" and event.name in _ENDED:
            self._ended_event = True
            self._gone_since = self._gone_since or time.monotonic()
        elif event.program == "server" and event.name == "PROCESS_STATE_STARTING":
            self._lines.clear()
        elif event.program == "sidecar" and event.name == "PROCESS_STATE_FATAL":
            self._log.error("the health sidecar cannot be started")

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
            self._keep_identity(self._server)
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
        self._starting.begin(server.pid)

    def _keep_identity(self, server: Identity) -> None:
        """Where somebody has removed or damaged the state folder, a stop would not find whom to let finish."""
        if processes.read_identity(self._state.path(files.SERVER)) is None and processes.is_alive(server):
            self._state.write_text(files.SERVER, f"{server.pid} {server.start_ticks}\n")

    def _forget_server(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._pidfd, self._server, self._gone_since, self._ended_event = None, None, None, False

    def _look_at_limits(self) -> None:
        health = self._state.read(files.HEALTH) or {}
        was_ready = self._ready_seconds() is not None
        of_this = health.get("pid") == self._history.pid
        standing = Standing(
            seconds=self._history.seconds(),
            was_ready=was_ready,
            hung=bool(health.get("hung")) and of_this,
            lost=bool(health.get("lost")) and of_this,
            said=str(health.get("reason") or ""),
        )
        stalled = None if was_ready else self._starting.look()
        if self._contract.nodes > 1:  # it may be another node that it waits for
            stalled = None
        reason = over(standing, self._contract) or stalled
        if reason is not None:
            self._end_server(reason)
        elif was_ready and self._members.missing_seconds(self._server) > OWN_END_SECONDS and not health.get("ready"):
            self._has_lost = True
            self._end_now()

    def _ready_seconds(self) -> float | None:
        """How long the newest attempt has been ready; None when it never was."""
        ready = self._state.read(files.READY) or {}
        if ready.get("pid") == self._history.pid:
            self._ready = (self._history.pid, float(ready["monotonic"]))
        # kept, for somebody may remove the state folder: what has served for hours is not late to start
        pid, since = self._ready
        return time.monotonic() - since if pid and pid == self._history.pid else None

    def _end_server(self, reason: AimError) -> None:
        self._log.error(reason.message)
        self._reason = reason
        self._keep_evidence(reason, HUNG_SECONDS)
        self._end_now()

    def _end_now(self) -> None:
        self._clean()
        self._gone_since = time.monotonic()

    def _keep_evidence(self, error: AimError, seconds: float) -> None:
        self._history.tell_evidence(self._evidence.keep(self._scene(error), seconds=seconds))

    def _scene(self, error: AimError) -> Scene:
        return Scene(error=error, attempt=self._history.newest, lines=self._lines.last(), living=self._below())

    # --- the server that has ended

    def _ended(self, status: int) -> None:
        if self._state.exists(files.STOP):  # it was asked for; boot sees to the rest
            return
        found = processes.read_identity(self._state.path(files.SERVER))
        # it may have ended before it was looked at even once
        self._history.begin(found.pid if found else 0, oom_kills=self._oom_kills)
        ready_seconds = self._ready_seconds()
        failure = self._judge(status, was_ready=ready_seconds is not None)
        ended_at, self._reason, self._has_lost = time.monotonic(), None, False
        self._log.error(f"attempt {self._history.end(failure)}: {failure.error.message}")
        self._forget_server()
        self._clean()
        crash = failure.error if isinstance(failure.error, EngineCrashedError) else None
        step = decide(
            failure,
            retries_used=self._history.retries_used,
            max_retries=self._contract.max_retries,
            ready_seconds=ready_seconds or 0.0,
            previous=self._history.previous_message,
            ladder=self._contract.ladder,
            taken=self._history.rungs,
            seconds_left=math.inf if ready_seconds else seconds_left(self._history.spent_seconds, self._contract),
        )
        self._history.retries_used = step.retries_used
        if crash is not None and step.delay_seconds != 0:
            self._keep_evidence(crash, ENDED_SECONDS)
        if step.delay_seconds is None:
            self._give_up(failure.error)
            return
        if step.rung is not None:
            self._history.rungs.append(step.rung.name)
        self._log.warning(in_words(step, self._contract.max_retries))
        self._history.retry_at = ended_at + step.delay_seconds
        self._history.save()
        if step.delay_seconds:
            return
        scene = self._scene(failure.error)
        self._start_again()
        if crash is not None:  # what is left of it can wait
            self._history.tell_evidence(self._evidence.keep(scene, seconds=ENDED_SECONDS))

    def _judge(self, status: int, *, was_ready: bool) -> Failure:
        if self._reason is not None:
            return ended_by_us(self._reason)
        return classify(
            self._evidence.redacted(self._lines.last()),
            status=status,
            how=LOST if self._has_lost else how_it_ended(self._state.path(files.DAEMON_LOG)),
            was_ready=was_ready,
            out_of_memory=out_of_memory.since(self._history.oom_kills),
            model=self._contract.model,
        )

    def _below(self) -> list[Process]:
        return self._remains.of_group(self._history.pid, daemon=self._daemon)

    def _clean(self) -> None:
        if not self._remains.end(self._below):
            self._log.warning("a process of the engine does not end; it may be waiting for the driver")

    def _start_again(self) -> None:
        self._history.retry_at = None
        self._lines.clear()
        self._starting.forget()
        self._state.remove(files.READY, files.MEMORY)
        self._history.save()
        try:
            self._control.start("server")
        except ControlError as error:
            self._log.error(f"cannot start the server again: {error}")
            self._history.retry_at = time.monotonic() + 1.0

    def _give_up(self, error: AimError) -> None:
        self._given_up = True
        self._history.save()
        more = {"evidence": self._history.newest.get("evidence"), "earlier_attempts": self._history.earlier}
        self._state.write(files.WORDS, error.as_json() | {name: value for name, value in more.items() if value})
        if self._contract.keep_alive:
            self._log.error(staying_up(error.hint, self._contract.health_port))
            return
        try:
            self._control.shutdown()
        except ControlError:
            os.kill(self._daemon, signal.SIGTERM)
