"""Looks at the server again and again: the state folder and the server's URLs in, `Observation`s out.

Its own errors are observations too: it never raises for what the server does. It judges nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aim_engine.backends.counters import is_asleep, read_copies, read_counters
from aim_engine.backends.figures import read_cache
from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.actual import Seen
from aim_engine.runtime.contract import Contract
from aim_engine.runtime.copies import Copy, copies_of
from aim_engine.runtime.cpu_time import Computed, CpuTime, ticks_of
from aim_engine.runtime.front_end import FrontEnd, living, read_front_ends
from aim_engine.runtime.health import Observation
from aim_engine.runtime.state import State

if TYPE_CHECKING:
    from aim_engine.runtime.sanity import Sanity

_HEALTH_SECONDS = 5.0
_PROBE_SECONDS = 1800.0  # the first request may compile kernels for many minutes
_PROBE_AGAIN_SECONDS = 2.0
_SANITY_AGAIN_SECONDS = 60.0  # the questions are many, and the answers mostly the same again
_COUNT_EVERY_SECONDS = 5.0
_COUNT_AGAIN_SECONDS = 1.0  # while there is work and nothing moves


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`status` 0 means no answer; `silent` that somebody listens all the same."""

    status: int
    body: str = ""
    silent: bool = False


def ask(
    url: str,
    *,
    key: str | None,
    seconds: float,
    body: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request, on a connection of its own. Never raises."""
    connected = False
    try:
        parts = urllib.parse.urlsplit(url)
        address = parts.hostname or "127.0.0.1", parts.port or 80
        with socket.create_connection(address, seconds) as plain:
            # from here on whatever is missing is an answer: the kernel takes connections for a frozen server too,
            # and a TLS handshake is the first thing that such a one leaves unanswered
            connected = True
            return _request(plain, parts, key=key, body=body, more=headers)
    except TimeoutError:  # of the connection itself, too: the queue of a frozen server is full
        return Answer(status=0, silent=True)
    except Exception:  # whatever it is, the looking goes on
        return Answer(status=0, silent=connected)


def _request(
    plain: socket.socket,
    parts: urllib.parse.SplitResult,
    *,
    key: str | None,
    body: Mapping[str, object] | None,
    more: Mapping[str, str] | None,
) -> Answer:
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port)
    connection.sock = _secured(plain) if parts.scheme == "https" else plain
    try:
        headers = {"Connection": "close", **(more or {})}
        if key:
            # as the guard has it; http.client writes headers in Latin-1
            headers["Authorization"] = "Bearer " + os.fsencode(key).decode("latin-1")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        method = "GET" if body is None else "POST"
        connection.request(method, parts.path or "/", data, headers)
        answer = connection.getresponse()
        return Answer(status=answer.status, body=answer.read(4_000_000).decode("utf-8", "replace"))
    finally:
        connection.close()


def _secured(plain: socket.socket) -> socket.socket:
    import ssl  # here: it takes 3 MB, and most servers do without

    # our own server, over loopback, under whatever name its certificate was made for: nobody is to be recognised
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def error_text(answer: Answer) -> str:
    """The engine's own words, for instance of {"error": {"message": ...}}."""
    try:
        value = json.loads(answer.body)
        found = value.get("error", value)
        text = str(found.get("message", "") if isinstance(found, dict) else found)
    except (ValueError, AttributeError, RecursionError):
        text = answer.body
    if answer.status == 0:
        return "the server ended the connection without an answer"
    return f"the engine answered {answer.status}: {text.strip()[:300] or 'nothing'}"


def _beats(front_ends: Sequence[FrontEnd]) -> dict[int, tuple[int, int]]:
    """Of each that lives what changes as long as it runs: what it tells, and, where the disk does not let it, the time
    that it computes.
    """
    return {one.pid: (one.beat, ticks_of(one.pid)) for one in living(front_ends)}


@dataclass
class Poller:
    """Looks at one server. The probe runs in a thread: a first request may take minutes, and a stop must be seen.
    `memory` is what was seen of the server's memory just after it answered, `sanity` what was found of its answers.
    """

    state: State
    contract: Contract
    key: str | None
    clock: Callable[[], float] = time.monotonic  # of the observations
    counters: dict[str, float] = field(default_factory=dict)
    counters_at: float = 0.0
    memory: Seen | None = None
    sanity: Sanity | None = None
    asleep: bool = False
    _known: processes.Identity | None = None
    _copies: Mapping[str, Copy] = field(default_factory=dict)
    _load: float | None = None
    _computed: Computed | None = None
    _stands_still: bool = False
    _probe: str | None = None
    _probe_hint: str = ""
    _probed: processes.Identity | None = None
    _probe_again_at: float = 0.0
    _prober: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._cpu_time = CpuTime(on_host=self.contract.computes_on_host)

    def look(self) -> Observation:
        """What is there now."""
        # the one known before counts as long as it lives: somebody may have removed the state folder
        server = processes.read_identity(self.state.path(files.SERVER)) or self._known
        if not processes.is_alive(server):
            server = None
        self._known = server
        attempts = self.state.read(files.ATTEMPTS) or {}
        words = self.state.read(files.WORDS)
        failed = words or next((a["failure"] for a in reversed(attempts.get("attempts", [])) if a["failure"]), None)
        progress = self.state.read(files.PROGRESS) or {}
        answer = self._health(server)
        # a server that is not ready has told nothing yet, and is looked at up to 50 times a second
        front_ends = read_front_ends(self.state.path(files.TEMPORARY)) if self._probe == "" else []
        counted = server is not None and answer.status == 200 and self._count(server, front_ends)
        return Observation(
            at=self.clock(),
            server=(server.pid, server.start_ticks) if server is not None else None,
            healthy=answer.status == 200 if answer.status else None,
            silent=answer.silent,
            probe=self._probe if self._probed == server else None,
            probe_hint=self._probe_hint,
            load=self._load if counted else None,
            queue=self._queue if counted else None,
            waiting=self.counters.get("waiting"),
            iterations=self.counters.get("iterations"),
            marks=tuple(number for _, number in sorted(self.counters.items())),
            copies=self._copies,
            worked_seconds=self._computed.engine if counted and self._computed else None,
            served_seconds=self._computed.front_ends if counted and self._computed else None,
            beats=_beats(front_ends),
            asleep=self.asleep,
            stage=progress.get("words") or None,
            stop_asked=self.state.exists(files.STOP),
            retry_pending=attempts.get("retry_at") is not None,
            failure=(failed["message"], failed["hint"]) if failed else None,
            given_up=words is not None,
        )

    def _health(self, server: processes.Identity | None) -> Answer:
        if server is None:
            return Answer(status=0)
        self._meet(server)
        answer = ask(self.contract.command.health_url, key=self.key, seconds=_HEALTH_SECONDS)
        if answer.status == 200:
            self._probe_once(server)
        return answer

    def _meet(self, server: processes.Identity) -> None:
        """Know nothing of another server but that it was ready, if it was, before this sidecar began."""
        if self._probed == server:
            return
        self._probe, self._load, self.counters, self.counters_at, self.memory = None, None, {}, 0.0, None
        self._probed, self._probe_again_at, self._probe_hint, self.sanity = server, 0.0, "", None
        self.asleep, self._stands_still, self._copies = False, False, {}
        self._cpu_time.forget()
        ready = self.state.read(files.READY) or {}
        if (ready.get("pid"), ready.get("start")) == (server.pid, server.start_ticks):
            self._probe = ""  # it may be frozen by now: a probe would never end
            if (self.state.read(files.MEMORY) or {}).get("server") == [server.pid, server.start_ticks]:
                self.memory = Seen()  # what it took was noted then

    def _probe_once(self, server: processes.Identity) -> None:
        if self._probe == "" or time.monotonic() < self._probe_again_at:
            return
        if self._prober is None or not self._prober.is_alive():
            self._prober = threading.Thread(target=self._ask_for_a_token, args=(server,), daemon=True)
            self._prober.start()

    def _ask_for_a_token(self, server: processes.Identity) -> None:
        command = self.contract.command
        answer = ask(command.probe_url, key=self.key, seconds=_PROBE_SECONDS, body=command.probe_body)
        problem, hint = ("", "") if answer.status == 200 else (error_text(answer), "")
        if answer.status == 200 and self.contract.sanity:
            self._look_at_memory(server)
            problem, hint = self._examine(server)
        if self._probed == server:
            # vLLM counts a request down a moment after it was answered: the probe itself is not to be seen as load
            self.counters_at = time.monotonic()
            self._probe_again_at = time.monotonic() + (_SANITY_AGAIN_SECONDS if hint else _PROBE_AGAIN_SECONDS)
            self._probe_hint = hint
            self._probe = problem
            if answer.status == 200 and not self.contract.sanity:
                self._look_at_memory(server)

    def _examine(self, server: processes.Identity) -> tuple[str, str]:
        """What keeps it from being ready, and what to do about it; "" twice where its answers are sane."""
        from aim_engine.runtime.questions import NotAnsweredError, examine  # here: few servers are asked

        def post(url: str, body: Mapping[str, object]) -> tuple[int, str]:
            answer = ask(url, key=self.key, seconds=_PROBE_SECONDS, body=body)
            return answer.status, answer.body

        command = self.contract.command
        try:
            found = examine(post, completions_url=command.probe_url, model=str(command.probe_body["model"]))
        except NotAnsweredError as error:
            return str(error), ""
        if self._probed == server:
            self.sanity = found
        return (found.sentence, found.hint) if found.passed is False else ("", "")

    def _look_at_memory(self, server: processes.Identity) -> None:
        """Once, before requests have made it grow: a page of the cache is there, a full step was never made."""
        resident = processes.resident_bytes(server.pid)
        metrics = ask(self.contract.command.metrics_url, key=self.key, seconds=_HEALTH_SECONDS)
        said = self.state.read(files.FIGURES)
        found = Seen(
            cache=read_cache(metrics.body) if metrics.status == 200 else None,
            said={name: size for name, size in (said or {}).items() if isinstance(size, int)},
            resident_bytes=resident,
        )
        if self._probed == server:
            self.memory = found

    @property
    def _queue(self) -> float | None:
        """Requests that the engine itself knows of; None where it does not tell."""
        known = [self.counters[name] for name in ("running", "waiting") if name in self.counters]
        return sum(known) if known else None

    def _count(self, server: processes.Identity, front_ends: Sequence[FrontEnd]) -> bool:
        """Ask for the counters now and then: making them costs the server milliseconds. True when it was done."""
        often = _COUNT_AGAIN_SECONDS if self._stands_still else _COUNT_EVERY_SECONDS
        seconds = min(often, self.contract.hang_timeout_seconds / 4)
        if self._probe != "" or time.monotonic() - self.counters_at < seconds:
            return False
        self.counters_at = time.monotonic()
        before = self.counters
        load = ask(self.contract.command.load_url, key=self.key, seconds=_HEALTH_SECONDS)
        metrics = ask(self.contract.command.metrics_url, key=self.key, seconds=_HEALTH_SECONDS)
        if metrics.status == 200:
            self.counters, self.asleep = read_counters(metrics.body), is_asleep(metrics.body)
            self._copies = copies_of(read_copies(metrics.body))
        try:
            self._load = float(json.loads(load.body)["server_load"]) if load.status == 200 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            self._load = None
        works = bool(self._load or self._queue)
        self._stands_still = works and self.counters == before
        self._look_at_cpu_time(server.pid if works else None, [one.pid for one in front_ends])
        return True

    def _look_at_cpu_time(self, server: int | None, front_ends: Sequence[int]) -> None:
        if server is None:
            self._cpu_time.forget()
            self._computed = None
            return
        self._computed = self._cpu_time.seconds(server, front_ends)
