"""The sidecar of a node that is not the leader: the state folder and what the leader's sidecar says in; the same routes
and files as any sidecar's out. It asks its own engine nothing: a headless one has no API.
"""

from __future__ import annotations

import time
from typing import Any

from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.health import advance
from aim_engine.runtime.node_group import Leader, ask_leader, judge_worker
from aim_engine.runtime.poller import Answer, Poller
from aim_engine.runtime.sidecar import Sidecar


class WorkerPoller(Poller):
    """Looks at the process alone: whatever answers at the API's port is not ours."""

    def _health(self, server: processes.Identity | None) -> Answer:
        return Answer(status=0)


class WorkerSidecar(Sidecar):
    """The same server, another judgement."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._leader = Leader(address=self._contract.leader_address)
        self._group = f"node {self._contract.node_rank} of {self._contract.nodes}"

    def _pause_seconds(self) -> float:
        return 1.0

    def look(self) -> None:
        """Ask the leader, which hears of us by that, and say what follows."""
        answer = ask_leader(self._contract)
        self._seen = self._poller.look()
        self._leader = self._leader.after(answer, self._seen.at)
        self._memory = advance(self._memory, self._seen)
        self._verdict = judge_worker(self._memory, self._seen, self._leader, group=self._group)
        if self._verdict.ready and self._seen.server and not self._state.exists(files.READY):
            pid, start = self._seen.server
            self._state.write(files.READY, {"pid": pid, "start": start, "monotonic": time.monotonic()})
        self._tell(self._verdict)

    def _addresses(self) -> str:
        return self._verdict.reason

    def _nodes(self) -> dict[str, Any]:
        return {"rank": self._contract.node_rank, "nodes": self._contract.nodes, "leader": self._leader.address,
                "leader_phase": self._leader.phase}  # fmt: skip
