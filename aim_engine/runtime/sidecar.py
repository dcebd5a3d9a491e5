"""The health sidecar: looks at the server and says over HTTP how it is, from the first second on.

In: the state folder and the server's answers. Out: the routes of `ROUTES`, ready.json and health.json. It restarts
nothing and holds no secret: what it shows comes from plan.json, which has none.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aim_engine.hardware.preflight.check import this_site
from aim_engine.runtime import state as files
from aim_engine.runtime.awake import TICK_SECONDS, Awake
from aim_engine.runtime.canary import Canary
from aim_engine.runtime.canary_times import canary_for
from aim_engine.runtime.contract import Contract, read_contract
from aim_engine.runtime.deaths import Deaths
from aim_engine.runtime.health import Memory, Observation, Verdict, advance, heed, judge
from aim_engine.runtime.http_server import HealthServer
from aim_engine.runtime.log import Log
from aim_engine.runtime.node_group import Workers
from aim_engine.runtime.observations import Observations, work
from aim_engine.runtime.poller import Poller
from aim_engine.runtime.processes import Identity
from aim_engine.runtime.remember import MemoryReport
from aim_engine.runtime.routes import Snapshot
from aim_engine.runtime.start_report import StartReport
from aim_engine.runtime.state import State
from aim_engine.runtime.supervisord import STATE_VARIABLE

if TYPE_CHECKING:
    from aim_engine.runtime.sanity import Sanity

_STARTING_SECONDS = 0.1
_PROBING_SECONDS = 0.02  # most answer the probe at once
_STEADY_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    """Serve until a signal, or until supervisord is gone."""
    del arguments
    state = State(os.environ[STATE_VARIABLE])
    plan: dict[str, Any] = state.read(files.PLAN) or {}
    contract = read_contract(plan)
    log = Log("sidecar", level=contract.log_level, style=contract.log_format)
    key = os.environ.get("AIM_API_KEY") or os.environ.get("VLLM_API_KEY")
    awake = Awake()
    threading.Thread(target=_tick, args=(awake,), daemon=True).start()
    of_poller, of_sidecar = _kinds(contract)
    poller = of_poller(state=state, contract=contract, key=key, clock=awake.now)
    sidecar = of_sidecar(state, contract, plan, poller, log, inside=this_site(os.environ).in_container)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sidecar.run()
    return 0


def _kinds(contract: Contract) -> tuple[type[Poller], type[Sidecar]]:
    if contract.node_rank == 0:
        return Poller, Sidecar
    from aim_engine.runtime.worker_sidecar import WorkerPoller, WorkerSidecar  # here: it is made of what is below

    return WorkerPoller, WorkerSidecar


def _tick(awake: Awake) -> None:
    """Apart from the looking: that may wait for answers, and is not frozen then."""
    while True:
        time.sleep(TICK_SECONDS)
        awake.tick()


class Sidecar:
    """One poller, one HTTP server."""

    def __init__(
        self, state: State, contract: Contract, plan: dict[str, Any], poller: Poller, log: Log, *, inside: bool = False
    ) -> None:
        self._state = state
        self._contract = contract
        self._plan = plan
        self._poller = poller
        self._log = log
        self._inside = inside  # a container
        self._memory = Memory()
        self._canary = Canary(contract, poller.key, (state.read(files.RUN) or {}).get("canary", ""))
        self._observations = Observations(state)
        self._report = MemoryReport(state, plan, log)
        self._start = StartReport(state, contract, plan, log)
        self._seen = Observation(at=poller.clock(), server=None)
        self._verdict = Verdict(phase="starting", reason="the engine is about to start")
        self._said: tuple[str, str] = ("", "")
        self._failed = ""
        self._sanity: Sanity | None = None
        self._workers = Workers(nodes=contract.nodes)
        self._deaths = Deaths()

    def run(self) -> None:
        server = HealthServer(self._contract.host, self._contract.health_port, self.snapshot, self.hear)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5}, daemon=True).start()
        parent = os.getppid()
        while os.getppid() == parent:
            self.try_to_look()
            server.end_slow_connections()
            self._deaths.rest(self._served(), self._pause_seconds())

    def _served(self) -> Identity | None:
        """The server whose end is waited for: one that is ready."""
        return Identity(*self._seen.server) if self._verdict.ready and self._seen.server else None

    def hear(self, path: str) -> None:
        """A question that may be a worker's."""
        self._workers.hear(path, self._poller.clock())

    def _pause_seconds(self) -> float:
        if self._verdict.ready or self._verdict.phase == "draining":
            return _STEADY_SECONDS
        return (
            _PROBING_SECONDS if self._verdict.phase == "probing" and not self._memory.probe_error else _STARTING_SECONDS
        )

    def try_to_look(self) -> None:
        """Look; a look that fails is a bug of ours, and no reason to say nothing from then on. Its text is not shown:
        it may hold what it failed at, such as a secret.
        """
        try:
            self.look()
        except Exception as error:
            if self._failed != (kind := type(error).__name__):
                self._failed = kind
                self._log.error(f"a look at the server failed ({kind}); the last verdict stands. Please report this")

    def look(self) -> None:
        """Look once, and write down what follows from it."""
        self._seen = self._with_canary(self._poller.look())
        self._memory = advance(self._memory, self._seen)
        limit = self._contract.hang_timeout_seconds
        verdict = judge(self._memory, self._seen, hang_timeout_seconds=limit)
        self._memory = heed(self._memory, verdict)
        verdict = self._workers.judged(verdict, at=self._seen.at, ready_since=self._memory.ready_since)
        self._observations.take(self._seen, self._memory, verdict, self._poller.counters)
        every = self._contract.canary_every_seconds
        asked = canary_for(self._memory, self._seen, every_seconds=every, hang_timeout_seconds=limit)
        if self._seen.server and asked is not None:
            self._canary.send(self._seen.server, self._seen.at, asked)
        if self._memory.ready_since is not None and self._memory.server and not self._state.exists(files.READY):
            pid, start = self._memory.server
            if self._seen.server == self._memory.server:
                self._state.write(files.READY, {"pid": pid, "start": start, "monotonic": time.monotonic()})
        self._verdict = self._start.look(verdict, broken=bool(self._memory.probe_error))
        self._tell(verdict)
        self._tell_sanity()
        if verdict.ready and self._memory.server and (seen := self._poller.memory) is not None:
            self._report.take(self._memory.server, seen)

    def _with_canary(self, seen: Observation) -> Observation:
        """The same with what is known of the canary, and without it in the load and in the queue."""
        since, copy = self._canary.since(seen.server), self._canary.copy
        outcome = self._canary.take()
        own = 1.0 if since is not None and outcome is None else 0.0
        load = max(0.0, seen.load - own) if seen.load is not None else None
        queue = max(0.0, seen.queue - own) if seen.queue is not None else None
        waited_for = since if outcome is None else None
        return replace(seen, load=load, queue=queue, canary=outcome, canary_since=waited_for, canary_copy=copy)

    def _tell(self, verdict: Verdict) -> None:
        said = (verdict.phase, verdict.reason)
        if said == self._said:
            return
        if verdict.phase != self._said[0]:
            self._state.record(phase=verdict.phase, reason=verdict.reason)
            reason = self._addresses() if verdict.ready else verdict.reason
            self._log.info(f"{verdict.phase}{': ' if reason else ''}{reason}")
        self._said = said
        pid = self._seen.server[0] if self._seen.server else None
        self._state.write(files.HEALTH, {"phase": verdict.phase, "ready": verdict.ready, "hung": verdict.hung,
                                         "lost": verdict.lost, "reason": verdict.reason, "pid": pid})  # fmt: skip

    def _tell_sanity(self) -> None:
        found = self._poller.sanity
        if found is not None and found != self._sanity:
            (self._log.error if found.passed is False else self._log.info)(found.sentence)
        self._sanity = found

    def _addresses(self) -> str:
        """Where to send what, for the person who waited for it."""
        body = self._contract.command.probe_body
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(self._contract.host, self._contract.host)
        api = self._contract.command.probe_url.rpartition("/v1/")[0].partition("://")
        health = f"http://{host}:{self._contract.health_port}/health/ready"
        # the host's ports are not known inside
        inner = " (the container's own ports: outside, those that they are published as)" if self._inside else ""
        return f"{api[0]}://{host}:{self._contract.port}/v1 serves {body.get('model')}; health at {health}{inner}"

    def _nodes(self) -> dict[str, Any]:
        return self._workers.as_json(self._poller.clock()) if self._contract.nodes > 1 else {}

    def snapshot(self) -> Snapshot:
        """What the routes show now. A stop that was asked for shows at once, not at the next look."""
        verdict = self._verdict
        if self._state.exists(files.STOP):
            verdict = Verdict(phase="draining", reason="a stop was asked for")
        attempts = self._state.read(files.ATTEMPTS) or {}
        return Snapshot(
            verdict=verdict,
            plan=self._plan,
            pid=self._seen.server[0] if self._seen.server else None,
            timeline=tuple(self._state.timeline()),
            attempts=tuple(attempts.get("attempts", ())),
            counters=dict(self._poller.counters),
            now=time.time(),
            memory=self._report.shown(self._seen.server),
            start=self._start.shown(verdict),
            sanity=sanity.as_json() if (sanity := self._poller.sanity) else None,
            work=work(self._memory, self._seen.at),
            canary=self._canary.as_json(),
            nodes=self._nodes(),
        )
