"""The end of a run: however it came about, in: a request to stop, or a supervisord that ended; out: the last words.

Ends the server the way its state asks for, then everything else, and leaves no process, no shared memory and no
socket behind. Does not judge why a server failed.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aim_engine.errors import EngineCrashedError, InternalError
from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.contract import Contract
from aim_engine.runtime.control import Control
from aim_engine.runtime.front_end import FrontEnd, living, read_front_ends
from aim_engine.runtime.log import Log, say
from aim_engine.runtime.processes import Identity, Process
from aim_engine.runtime.remains import Remains
from aim_engine.runtime.signals import Forced, Signals
from aim_engine.runtime.state import State

TERMINATION_LOG = "/dev/termination-log"  # Kubernetes reads it (terminationMessagePath), at most 4096 bytes
_TERMINATION_BYTES = 4096

# A vLLM that is starting may swallow a SIGTERM: its engine process is being waited for. The second one ends it.
_START_TERMS = 3
_START_TERM_SECONDS = 2.0
# Within which the guard has told what is in flight, where less was given to finish it (guard.py looks every 0.25 s).
_RECEIPT_SECONDS = 1.0
# What a server has to end itself once nothing is in flight, however late that was.
_END_SECONDS = 5.0
# Within which all nodes of a group hear that they are to stop.
_LEADER_SIGNAL_SECONDS = 5.0


class Ending:
    """Ends one run."""

    def __init__(self, state: State, contract: Contract, *, signals: Signals, log: Log, daemon: Identity) -> None:
        self._state = state
        self._contract = contract
        self._control = Control(state.path(files.SOCKET))
        self._signals = signals
        self._log = log
        self._daemon = daemon
        self._remains = Remains(state, os.getpid())

    def drain(self) -> dict[str, Any]:
        """Stop because it was asked for: let a ready server finish what is in flight, end a starting one quickly."""
        self._state.write_text(files.STOP, "")
        name = signal.Signals(self._signals.asked or signal.SIGTERM).name
        failed = self._state.read(files.WORDS)
        finished, began = True, time.monotonic()
        try:
            finished = self._end_server(name)
            reason, hint = self._why_cut(time.monotonic() - began)
        except Forced:
            finished, reason, hint = False, "and killed: a second signal asked not to wait", ""
        if isinstance(failed, dict):
            return failed
        receipt = receipt_in(self._state.path(files.TEMPORARY))
        if finished or (receipt and not receipt["cut"]):  # nobody misses what an idle server's own end would have been
            return _words("Drained", 0, f"stopped as {name} asked", receipt)
        code = 128 + int(self._signals.asked or signal.SIGTERM)
        return _words("Killed", code, f"stopped as {name} asked, {reason}", receipt, hint)

    def _why_cut(self, seconds: float) -> tuple[str, str]:
        """Why requests were cut by a stop that took so long, and what to do about it."""
        limit = self._contract.drain_timeout_seconds
        if seconds < limit:
            return "and the engine ended before its requests did", "look in the log for what ended it"
        hint = "raise AIM_DRAIN_TIMEOUT, and give the stop that time: docker stop -t, terminationGracePeriodSeconds"
        return f"and killed: requests in flight did not finish within {limit:g} s", hint

    def _end_server(self, name: str) -> bool:
        """True when the server ended by itself, or had nothing to lose."""
        server = processes.read_identity(self._state.path(files.SERVER))
        if server is None or not processes.is_alive(server):
            return True
        try:
            return self._drain_ready(server, name) if self._is_ready(server) else self._end_starting(server, name)
        finally:
            self._end_group(server)

    def _drain_ready(self, server: Identity, name: str) -> bool:
        if self._contract.node_rank:
            return self._end_worker(server, name)
        seconds = self._contract.drain_timeout_seconds
        self._log.info(f"{name}: requests in flight may finish, for up to {seconds:g} s")
        deadline = time.monotonic() + seconds
        over = self._let_requests_end(server, deadline)
        # only the server itself: its engine process would drop what is in flight
        processes.send(server, signal.SIGTERM)
        least = _END_SECONDS if over and seconds else 0.0
        ended = self._gone(server, max(least, deadline - time.monotonic())) or self._told(server)
        # an engine ends in its own time too, and cuts what is not done by then
        return ended and not receipt_in(self._state.path(files.TEMPORARY)).get("cut")

    def _let_requests_end(self, server: Identity, deadline: float) -> bool:
        """Return when no front end has work any more, or at `deadline` (monotonic), before the server hears of the
        stop: a vLLM with several front ends ends each of them at once, whatever it has open, and one alone drops what
        it is still making tokens of. Whoever tells nothing within `_RECEIPT_SECONDS` is not waited for. True where they
        told that they have none.
        """

        def fronts() -> list[FrontEnd]:
            return living(read_front_ends(self._state.path(files.TEMPORARY)))

        def told() -> bool:
            found = fronts()
            return not processes.is_alive(server) or (found != [] and all(one.told.stopping for one in found))

        def over() -> bool:
            works = any(one.told.working for one in fronts() if one.told.stopping)
            return not works or not processes.is_alive(server)

        def left() -> float:
            return max(0.0, deadline - time.monotonic())

        self._signals.wait(min(_RECEIPT_SECONDS, left()), told, step=0.02)
        return self._signals.wait(left(), over, step=0.05) and any(one.told.stopping for one in fronts())

    def _told(self, server: Identity) -> bool:
        """Wait until the guard has told what is cut, which it may not have had the time for; True where the server has
        ended meanwhile.
        """

        def told() -> bool:
            return bool(receipt_in(self._state.path(files.TEMPORARY))) or not processes.is_alive(server)

        self._signals.wait(_RECEIPT_SECONDS, told, step=0.02)
        return not processes.is_alive(server)

    def _end_worker(self, server: Identity, name: str) -> bool:
        """A worker has no requests of its own; the leader's need it until the leader has drained, which is asked to
        stop at the same time where the whole group is.
        """
        from aim_engine.runtime.node_group import ask_leader  # here: few runs are of several nodes

        seconds, began = self._contract.drain_timeout_seconds, time.monotonic()
        self._log.info(f"{name}: the leader may finish its requests, for up to {seconds:g} s")

        def done() -> bool:
            phase = (ask_leader(self._contract) or {}).get("phase", "failed")
            alone = phase != "draining" and time.monotonic() - began > _LEADER_SIGNAL_SECONDS
            return phase == "failed" or alone or not processes.is_alive(server)

        self._signals.wait(seconds, done, step=0.5)
        processes.send(server, signal.SIGTERM)
        return True

    def _end_starting(self, server: Identity, name: str) -> bool:
        self._log.info(f"{name}: the engine is not ready yet; ending it")
        for _ in range(_START_TERMS):
            processes.send_group(server.pid, os.getpid(), signal.SIGTERM)
            if self._gone(server, _START_TERM_SECONDS):
                break
        return True

    def _is_ready(self, server: Identity) -> bool:
        ready = self._state.read(files.READY)
        return isinstance(ready, dict) and ready.get("pid") == server.pid and ready.get("start") == server.start_ticks

    def _gone(self, identity: Identity, seconds: float) -> bool:
        return self._signals.wait(seconds, lambda: not processes.is_alive(identity), step=0.02)

    def _end_group(self, server: Identity) -> None:
        def members() -> list[Process]:
            return [process for process in self._remains.everything() if process.group == server.pid]

        self._remains.end(members, pause=self._signals.pause)

    def after_the_end(self) -> dict[str, Any]:
        """supervisord ended by itself, or is of no use: the watch's words if it left any, a bug of ours if not."""
        words = self._state.read(files.WORDS)
        if isinstance(words, dict) and isinstance(words.get("code"), int):
            return words
        if processes.read_identity(self._state.path(files.SERVER)) is not None:
            words = "supervisord was killed from outside, so everything was ended"
            return EngineCrashedError(words, hint="start again").as_json()
        return InternalError(
            "the supervisor failed without saying why",
            hint=f"look at {self._state.path(files.DAEMON_LOG)} and report this",
            details=tuple(self._last_lines()),
        ).as_json()

    def _last_lines(self) -> list[str]:
        try:
            with open(self._state.path(files.DAEMON_LOG), encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                return file.read().splitlines()[-5:]
        except OSError:
            return []

    def clean(self) -> None:
        """End every process that descends from us, and remove what they left. Never raises for a stubborn one."""
        if processes.is_alive(self._daemon):
            processes.send(self._daemon, signal.SIGTERM)
            self._wait_for_daemon()
        if not self._remains.end(self._remains.everything, pause=self._signals.pause):
            self._log.warning("a process does not end; it may be waiting for the driver")
        self._signals.pause(0)  # reaps the last
        self._state.remove(files.SOCKET, files.DAEMON_PID, files.SERVER, files.READY)
        remove_folder(self._state.path(files.TEMPORARY))

    def _wait_for_daemon(self) -> None:
        def ended() -> bool:
            self._control.wake()  # or it would notice its signal up to a second later
            return not processes.is_alive(self._daemon)

        with suppress(Forced):
            self._signals.wait(3, ended, step=0.02)


def remove_folder(folder: str) -> None:
    if os.path.isdir(folder):  # noqa: PTH112 - slim
        import shutil  # here: only for a run that got as far as an engine

        shutil.rmtree(folder, ignore_errors=True)


def receipt_in(folder: str) -> dict[str, int]:
    """`{finished, refused, cut}`: what became of requests after the stop, as the guards of all front ends counted;
    empty where none did. What one has at work to the last is cut.
    """
    found = [one.told for one in read_front_ends(folder) if one.told.stopping]
    if not found:
        return {}
    return {
        "finished": sum(one.finished for one in found),
        "refused": sum(one.refused for one in found),
        "cut": sum(one.cut + one.working for one in found),
    }


def _words(name: str, code: int, message: str, receipt: dict[str, int], hint: str = "") -> dict[str, Any]:
    words: dict[str, Any] = {"class": name, "code": code, "message": message, "hint": hint, "retryable": False}
    if any(receipt.values()):
        words["message"] += f" ({', '.join(f'{count} {what}' for what, count in receipt.items())})"
    return words | ({"receipt": receipt} if receipt else {})


def say_last_words(
    state: State, words: dict[str, Any], *, style: str = "json", termination_log: str = TERMINATION_LOG
) -> None:
    """The failure for people where logs are text; then the last line of stderr, last-words.json, and the file that
    Kubernetes shows.
    """
    people = _for_people(words) if style == "text" and words.get("code") else ""
    line = json.dumps(words, ensure_ascii=False)
    with suppress(OSError):
        state.write(files.WORDS, words)
    leave_words(words, termination_log)
    say(f"{people}{line}\n".encode("utf-8", "backslashreplace"))


def leave_words(words: Mapping[str, Any], termination_log: str = TERMINATION_LOG) -> None:
    """In the file that Kubernetes shows, where there is one: it made it."""
    data = json.dumps(words, ensure_ascii=False).encode("utf-8", "backslashreplace")
    with suppress(OSError):
        if os.path.isfile(termination_log):  # noqa: PTH113 - slim
            with open(termination_log, "wb") as file:  # noqa: PTH123 - slim
                file.write(data[:_TERMINATION_BYTES])


def _for_people(words: dict[str, Any]) -> str:
    """As the command line shows its own errors."""
    lines = [f"error: {words['message']}", *(f"  {detail}" for detail in words.get("details", ()))]
    lines += [f"attempt {one['number']}: {one['message']}" for one in words.get("earlier_attempts", ())]
    lines += [f"{name}: {words[key]}" for name, key in (("remedy", "hint"), ("evidence", "evidence")) if words.get(key)]
    return "\n".join(lines) + "\n"
