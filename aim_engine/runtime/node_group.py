"""The nodes that serve one model together: who was heard when in, whether one is missing out.

A worker's sidecar asks the leader's every second, and by that each knows of the other, without the workers' addresses.
The engine itself notices too late: vLLM's head keeps /health at 200 until the next request once a worker of --nnodes is
gone, and for ever where a copy is; its headless workers stay when the head has died (seen with 0.32). Judges only that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aim_engine.runtime.contract import Contract
from aim_engine.runtime.health import Memory, Observation, Verdict, judge

# A node that is loaded with compiling may be late by some seconds; one that is gone is gone.
LOST_SECONDS = 10.0
_ASK_SECONDS = 3.0
_PREFIX = "/node/"
_HINT = "look at that node; the group starts again together"


def path_of(rank: int) -> str:
    """Where a worker asks its leader's sidecar."""
    return f"{_PREFIX}{rank}"


@dataclass
class Workers:
    """What the leader knows of the others: when it last heard of each."""

    nodes: int
    heard: dict[int, float] = field(default_factory=dict)

    def hear(self, path: str, at: float) -> bool:
        """Note a question; False for one that is no worker's of this group."""
        rank = path.removeprefix(_PREFIX)
        if rank == path or not (rank.isascii() and rank.isdigit() and len(rank) < 4 and 0 < int(rank) < self.nodes):
            return False
        self.heard[int(rank)] = at
        return True

    def judged(self, verdict: Verdict, *, at: float, ready_since: float | None) -> Verdict:
        """The leader's verdict; another one where a worker is missing without which it serves nothing. Before it was
        ready only those count as missing that have been there.
        """
        if verdict.phase == "draining":
            return verdict
        last = {rank: self.heard.get(rank, ready_since) for rank in range(1, self.nodes)}
        silent = {rank: at - when for rank, when in last.items() if when is not None and at - when > LOST_SECONDS}
        if not silent:
            return verdict
        who = " and ".join(f"worker {rank}" for rank in silent)
        sentence = f"{who} of {self.nodes - 1} has not been heard of for {min(silent.values()):.0f} s"
        return replace(verdict, phase="failed", ready=False, live=False, lost=True, reason=sentence, hint=_HINT)

    def as_json(self, at: float) -> dict[str, Any]:
        """`{rank, nodes, workers: {rank: seconds since it was heard}}`."""
        ago = {str(rank): round(at - when, 1) for rank, when in sorted(dict(self.heard).items())}
        return {"rank": 0, "nodes": self.nodes, "workers": ago}


@dataclass(frozen=True, kw_only=True)
class Leader:
    """What a worker knows of its leader: when it last answered, and what it said of itself."""

    address: str
    heard_at: float | None = None
    phase: str = ""
    reason: str = ""

    def after(self, answer: Mapping[str, Any] | None, at: float) -> Leader:
        """The same after it was asked; None is no answer."""
        if answer is None:
            return self
        return replace(self, heard_at=at, phase=str(answer.get("phase", "")), reason=str(answer.get("reason", "")))


def judge_worker(memory: Memory, seen: Observation, leader: Leader, *, group: str) -> Verdict:
    """A worker has no API that could be asked: it is well while its process is there and its leader answers."""
    if seen.stop_asked or seen.given_up or seen.retry_pending or seen.server is None:
        return judge(memory, seen, hang_timeout_seconds=0)
    if leader.heard_at is None:
        return Verdict(phase="starting", reason=f"{group}: waiting for the leader, {leader.address}")
    silent = seen.at - leader.heard_at
    if silent > LOST_SECONDS:
        return _lost(f"the leader, {leader.address}, has not answered for {silent:.0f} s")
    if leader.phase == "failed":
        return _lost(f"the leader, {leader.address}, has failed{': ' if leader.reason else ''}{leader.reason}")
    return Verdict(phase="ready", ready=True, reason=f"{group}: worker of {leader.address}")


def _lost(reason: str) -> Verdict:
    return Verdict(phase="failed", live=False, lost=True, reason=reason, hint=_HINT)


def ask_leader(contract: Contract) -> dict[str, Any] | None:
    """What the leader's sidecar says of itself; None where it does not answer. Its port is the same on every node."""
    from aim_engine.runtime.poller import ask  # here: boot, which stays small, asks once if ever

    host = f"[{contract.leader_address}]" if ":" in contract.leader_address else contract.leader_address
    url = f"http://{host}:{contract.health_port}{path_of(contract.node_rank)}"
    answer = ask(url, key=None, seconds=_ASK_SECONDS)
    if answer.status != 200:
        return None
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
