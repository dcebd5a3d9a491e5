"""The watch: supervisord's events in; out: another attempt, or the last words and the end.

It sees the server's log lines and its exits, names the failure (`failures`), decides (`attempts`), cleans up after the
dead and starts the next one. What it knows is in files, so that it can itself be started again at any time. It never
talks to the engine.
"""

from __future__ import annotations

import os
import re
import select
import signal
import time
from typing import Any

from aim_engine.errors import AimError, EngineHungError, EngineStartTimeoutError
from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.attempts import decide
from aim_engine.runtime.contract import Contract, read_contract
from aim_engine.runtime.control import Control, ControlError, Program
from aim_engine.runtime.events import DONE, READY, Event, Lines, Reader
from aim_engine.runtime.failures import Failure, classify
from aim_engine.runtime.log import Log
from aim_engine.runtime.processes import Identity
from aim_engine.runtime.progress import stage_of
from aim_engine.runtime.state import State
from aim_engine.runtime.supervisord import STATE_VARIABLE

_TICK_SECONDS = 0.5
_SEGMENTS_EVERY_SECONDS = 5.0
_LAST_LINES_SECONDS = 1.0
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
        self._reader = Reader()
        self._lines = Lines()
        known = state.read(files.ATTEMPTS) or {}
        self._attempts: list[dict[str, Any]] = known.get("attempts", [])
        self._retries_used: int = known.get("retries_used", 0)
        self._retry_at: float | None = known.get("retry_at")  # on the monotonic clock
        self._given_up = state.exists(files.WORDS)
        self._server: Identity | None = None
        self._pidfd: int | None = None
        self._gone_since: float | None = None
        self._ended_event = False
        self._reason: AimError | None = None  # why we ended the server ourselves
        self._segments: set[str] = set(state.read(files.SEGMENTS) or ())
        self._segments_at = 0.0

    def run(self) -> None:
        os.write(1, READY)
        while self._listen(0.02 if self._gone_since is not None else _TICK_SECONDS):
            self._look()

    # --- what comes in

    def _listen(self, seconds: float) -> bool:
        """Take what supervisord says; False when it is gone."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        if self._pidfd is not None and self._gone_since is None:
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
                self._note_stage(line)
        elif event.program == "server" and event.name in _ENDED:
            self._ended_event = True
            self._gone_since = self._gone_since or time.monotonic()
        elif event.program == "server" and event.name == "PROCESS_STATE_STARTING":
            self._lines.clear()
        elif event.program == "sidecar" and event.name == "PROCESS_STATE_FATAL":
            self._log.error("the health sidecar cannot be started")

    def _note_stage(self, line: str) -> None:
        if stage := stage_of(line):
            self._state.write(files.PROGRESS, {"stage": stage, "at": time.time()})

    # --- what is done about it

    def _look(self) -> None:
        if self._given_up or self._state.exists(files.STOP):
            return
        if self._retry_at is not None:
            if time.monotonic() >= self._retry_at:
                self._start_again()
            return
        if self._server is None or self._gone_since is not None:
            self._look_for_server()
        else:
            self._look_at_limits()
            self._look_at_segments()

    def _look_for_server(self) -> None:
        """Find the server that runs, or see that the one we knew has ended."""
        found = processes.read_identity(self._state.path(files.SERVER))
        if processes.is_alive(found) and found != self._server:
            self._begin(found)
            return
        waited = time.monotonic() - self._gone_since if self._gone_since is not None else 0.0
        if self._gone_since is None and found is None:
            # no server was ever seen: only supervisord knows whether one is still to come
            program = self._ask()
            if program is None or program.runs or program.state == "STOPPED":
                return
            self._gone_since = time.monotonic()
        elif self._gone_since is None:
            self._gone_since = time.monotonic()
        # its last lines come before the event that says it has ended; asking wakes supervisord
        program = self._ask()
        if self._ended_event or (waited > _LAST_LINES_SECONDS and program is not None and not program.runs):
            self._ended(program.exit_status if program else -1)

    def _ask(self) -> Program | None:
        try:
            return self._control.program("server")
        except ControlError as error:
            self._log.debug(str(error))
            return None

    def _begin(self, server: Identity | None) -> None:
        """A server runs: remember it as an attempt, unless a watch before us did."""
        if server is None:
            return
        self._forget_server()
        self._server = server
        try:
            self._pidfd = os.pidfd_open(server.pid)
        except OSError:
            self._gone_since = time.monotonic()
        if not any(attempt["pid"] == server.pid and attempt["ended"] is None for attempt in self._attempts):
            self._attempts.append({"number": len(self._attempts) + 1, "pid": server.pid, "started": time.time(),
                                   "monotonic": time.monotonic(), "ended": None, "failure": None})  # fmt: skip
            self._save()

    def _forget_server(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._pidfd, self._server, self._gone_since, self._ended_event = None, None, None, False

    def _look_at_limits(self) -> None:
        ready_seconds = self._ready_seconds()
        health = self._state.read(files.HEALTH) or {}
        limit = self._contract.start_timeout_seconds
        took = time.monotonic() - self._attempts[-1]["monotonic"]
        if ready_seconds is None and took > limit:
            self._end_server(
                EngineStartTimeoutError(
                    f"the engine was not ready after {limit:g} s: {health.get('reason') or 'it said nothing'}",
                    hint="set AIM_START_TIMEOUT higher if the model is large or the disk slow",
                )
            )
        elif ready_seconds is not None and health.get("hung") and health.get("pid") == self._attempts[-1]["pid"]:
            self._end_server(
                EngineHungError(
                    str(health.get("reason") or "the engine hangs"), hint="look at the driver's log (dmesg)"
                )
            )

    def _ready_seconds(self) -> float | None:
        ready = self._state.read(files.READY) or {}
        server = self._server.pid if self._server else self._attempts[-1]["pid"] if self._attempts else None
        return time.monotonic() - float(ready["monotonic"]) if ready and ready.get("pid") == server else None

    def _end_server(self, reason: AimError) -> None:
        self._log.error(reason.message)
        self._reason = reason
        if self._server is not None:
            self._clean_after(self._server.pid)
        self._gone_since = time.monotonic()

    def _look_at_segments(self) -> None:
        if self._server is None or time.monotonic() - self._segments_at < _SEGMENTS_EVERY_SECONDS:
            return
        self._segments_at = time.monotonic()
        self._note_segments(self._server.pid)

    def _note_segments(self, group: int) -> None:
        seen = processes.segments_of(p.identity.pid for p in self._group_and_orphans(group))
        if seen - self._segments:
            self._segments |= seen
            self._state.write(files.SEGMENTS, sorted(self._segments))

    def _ended(self, status: int) -> None:
        if self._state.exists(files.STOP):  # it was asked for; boot sees to the rest
            return
        self._begin_unseen()
        attempt = self._attempts[-1]
        ready_seconds = self._ready_seconds()
        failure = self._judge(status, was_ready=ready_seconds is not None)
        self._reason = None
        step = decide(
            failure,
            retries_used=self._retries_used,
            max_retries=self._contract.max_retries,
            ready_seconds=ready_seconds or 0.0,
        )
        attempt.update(ended=time.time(), failure=failure.error.as_json())
        self._retries_used = step.retries_used
        self._log.error(f"attempt {attempt['number']}: {failure.error.message}")
        self._forget_server()
        self._clean_after(attempt["pid"])
        if step.delay_seconds is None:
            self._give_up(failure.error)
        else:
            self._log.warning(f"trying again in {step.delay_seconds:g} s (retry {step.retries_used} of "
                              f"{self._contract.max_retries})")  # fmt: skip
            self._retry_at = time.monotonic() + step.delay_seconds
            self._save()

    def _begin_unseen(self) -> None:
        """The server ended before it was looked at even once."""
        found = processes.read_identity(self._state.path(files.SERVER))
        if not self._attempts or self._attempts[-1]["ended"] is not None:
            self._attempts.append({"number": len(self._attempts) + 1, "pid": found.pid if found else 0,
                                   "started": time.time(), "monotonic": time.monotonic(), "ended": None,
                                   "failure": None})  # fmt: skip

    def _judge(self, status: int, *, was_ready: bool) -> Failure:
        if self._reason is not None:
            return Failure(error=self._reason)
        return classify(self._lines.last(), status=status, how=self._how_it_ended(), was_ready=was_ready)

    def _how_it_ended(self) -> str:
        """supervisord tells the signal in its log only: its events and its RPC say -1 for all of them."""
        try:
            with open(self._state.path(files.DAEMON_LOG), encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                found = _EXIT_LINE.findall(file.read())
        except OSError:
            return ""
        return found[-1].replace("terminated", "killed") if found and "terminated" in found[-1] else ""

    def _clean_after(self, group: int) -> None:
        """End what is left of a server: its group, and orphans that left the group; then its shared memory."""
        self._note_segments(group)
        if not processes.end_all(lambda: self._group_and_orphans(group)):
            self._log.warning("a process of the engine does not end; it may be waiting for the driver")
        processes.remove_segments(self._segments)

    def _group_and_orphans(self, group: int) -> list[processes.Process]:
        """Orphans have become children of boot, supervisord's parent."""
        boot, daemon = int((self._state.read(files.RUN) or {}).get("pid", 0)), os.getppid()
        parent = processes.look(daemon)
        if parent is None or parent.parent != boot:
            return []  # boot is gone: its children are not ours to judge
        orphans = {process.identity for process in processes.descendants(boot, without=(daemon,))}
        return [p for p in processes.descendants(boot) if p.identity in orphans or 0 < group == p.group]

    def _start_again(self) -> None:
        self._retry_at = None
        self._lines.clear()
        self._state.remove(files.PROGRESS, files.READY)
        self._save()
        if self._state.exists(files.STOP):
            return
        try:
            self._control.start("server")
        except ControlError as error:
            self._log.error(f"cannot start the server again: {error}")
            self._retry_at = time.monotonic() + 1.0

    def _give_up(self, error: AimError) -> None:
        self._given_up = True
        self._save()
        self._state.write(files.WORDS, error.as_json())
        if self._contract.keep_alive:
            self._log.error("staying up as AIM_KEEP_ALIVE asks; the health sidecar tells the reason")
            return
        try:
            self._control.shutdown()
        except ControlError:
            os.kill(os.getppid(), signal.SIGTERM)

    def _save(self) -> None:
        self._state.write(
            files.ATTEMPTS,
            {"attempts": self._attempts, "retries_used": self._retries_used, "retry_at": self._retry_at},
        )
