"""Nodes that serve together: who counts as missing when, and two real process trees that watch each other."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.health import Memory, Observation, Verdict
from aim_engine.runtime.node_group import LOST_SECONDS, Leader, Workers, judge_worker, path_of
from aim_engine.runtime.routes import reply

from .ports import free_ports
from .server import Server, fake_plan
from .test_sidecar import snapshot

READY = Verdict(phase="ready", ready=True)
LOADING = Verdict(phase="loading")
SERVER = (100, 5)


@pytest.mark.parametrize(
    ("path", "known"),
    [("/node/1", True), ("/node/2", True), ("/node/0", False), ("/node/3", False), ("/node/", False),
     ("/node/1/2", False), ("/node/-1", False), ("/node/1٣", False), ("/node/00001", False), ("/status", False)],
)  # fmt: skip
def test_a_question_of_a_worker(path: str, known: bool) -> None:
    workers = Workers(nodes=3)
    assert workers.hear(path, 5.0) is known
    assert bool(workers.heard) is known


def test_a_worker_that_was_there_and_is_silent_is_missing() -> None:
    workers = Workers(nodes=2)
    workers.hear(path_of(1), 100.0)
    assert workers.judged(LOADING, at=100 + LOST_SECONDS, ready_since=None) == LOADING
    lost = workers.judged(LOADING, at=101 + LOST_SECONDS, ready_since=None)
    assert (lost.phase, lost.lost, lost.live, lost.ready) == ("failed", True, False, False)
    assert lost.reason == "worker 1 of 1 has not been heard of for 11 s"


def test_a_worker_that_never_came_is_waited_for_until_the_leader_is_ready() -> None:
    workers = Workers(nodes=3)
    assert workers.judged(LOADING, at=1e6, ready_since=None) == LOADING
    assert workers.judged(READY, at=1000 + LOST_SECONDS, ready_since=1000.0) == READY
    late = workers.judged(READY, at=1001 + LOST_SECONDS, ready_since=1000.0)
    assert late.reason.startswith("worker 1 and worker 2 of 2")


def test_a_leader_that_stops_misses_nobody_and_one_that_is_alone_neither() -> None:
    workers = Workers(nodes=2)
    workers.hear(path_of(1), 0.0)
    draining = Verdict(phase="draining")
    assert workers.judged(draining, at=1e6, ready_since=0.0) == draining
    assert Workers(nodes=1).judged(READY, at=1e6, ready_since=0.0) == READY


def worker(leader: Leader, at: float = 0.0, **seen: Any) -> Verdict:
    look = Observation(**{"at": at, "server": SERVER, **seen})
    return judge_worker(Memory(server=SERVER), look, leader, group="node 1 of 2")


def test_a_worker_is_well_while_its_leader_answers() -> None:
    leader = Leader(address="head")
    assert worker(leader).phase == "starting"
    assert worker(leader, at=1e6).live, "a leader that never came is waited for as long as a start may take"
    heard = leader.after({"phase": "loading", "reason": "x"}, 10.0)
    verdict = worker(heard, at=10 + LOST_SECONDS)
    assert (verdict.phase, verdict.ready, verdict.reason) == ("ready", True, "node 1 of 2: worker of head")
    assert worker(heard.after({"phase": "draining"}, 11.0), at=12.0).ready, "its requests still need us"


def test_a_leader_that_is_gone_or_has_failed_is_the_end() -> None:
    heard = Leader(address="head").after({"phase": "ready"}, 10.0)
    gone = worker(heard.after(None, 30.0), at=11 + LOST_SECONDS)
    assert (gone.lost, gone.live, gone.reason) == (True, False, "the leader, head, has not answered for 11 s")
    failed = worker(heard.after({"phase": "failed", "reason": "no memory"}, 11.0), at=11.0)
    assert (failed.lost, failed.reason) == (True, "the leader, head, has failed: no memory")


def test_a_worker_s_own_end_comes_first() -> None:
    gone = Leader(address="head", heard_at=0.0)
    assert worker(gone, at=99.0, stop_asked=True).phase == "draining"
    assert worker(gone, at=99.0, server=None).phase == "restarting"
    assert not worker(gone, at=99.0, given_up=True, failure=("why", "hint")).lost


def test_only_a_leader_answers_its_workers() -> None:
    assert reply("/node/1", snapshot()).status == 404
    assert reply("/node/1", snapshot(nodes={"rank": 1, "nodes": 2})).status == 404
    answer = reply("/node/1", snapshot(nodes={"rank": 0, "nodes": 2}))
    assert (answer.status, json.loads(answer.body)["phase"]) == (200, "ready")
    status = json.loads(reply("/status", snapshot(nodes={"rank": 0, "nodes": 2})).body)
    assert status["nodes"] == {"rank": 0, "nodes": 2}
    assert "nodes" not in json.loads(reply("/status", snapshot()).body)


def test_the_contract_of_a_node(tmp_path: Path) -> None:
    alone = read_contract(fake_plan(tmp_path))
    assert (alone.nodes, alone.node_rank) == (1, 0)
    group = {"nodes": 3, "rank": 2, "address": "head", "port": 29501}
    found = read_contract(fake_plan(tmp_path, group=group))
    assert (found.nodes, found.node_rank, found.leader_address, found.leader_port) == (3, 2, "head", 29501)
    assert found.max_retries == 0


# --- two runs --------------------------------------------------------------------------------------------------------


class Pair:
    """A leader and its worker, on two addresses of this machine: every sidecar has the same port."""

    def __init__(self, folder: Path) -> None:
        health, gather = free_ports(2)
        group = {"nodes": 2, "address": "127.0.0.1", "port": gather}
        self.leader = _started(folder / "leader", host="127.0.0.1", health_port=health, group={**group, "rank": 0})
        self.worker = _started(folder / "worker", host="127.0.0.2", health_port=health, group={**group, "rank": 1})

    def until_ready(self) -> None:
        self.leader.until_ready()
        self.leader.until(lambda: self.leader.status()["nodes"]["workers"])
        self.leader.until(lambda: (self.worker.read("health.json") or {}).get("ready"))

    def end(self) -> None:
        self.leader.stop()
        self.worker.stop()


def _started(folder: Path, **runtime: Any) -> Server:
    folder.mkdir()
    return Server(fake_plan(folder, **runtime), folder)


def killed(server: Server) -> None:
    """All at once, as a node that loses its power."""
    for pid in (server.process.pid, *server.tree()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path)
    yield found
    found.end()


def test_a_worker_that_is_killed_ends_its_leader(pair: Pair) -> None:
    pair.until_ready()
    assert pair.leader.status()["nodes"]["workers"].keys() == {"1"}
    began = time.monotonic()
    killed(pair.worker)
    assert pair.leader.wait(LOST_SECONDS + 40) == 51
    assert time.monotonic() - began > LOST_SECONDS - 2
    assert "worker 1 of 1 has not been heard of" in pair.leader.words()["message"]
    assert len(pair.leader.read("attempts.json")["attempts"]) == 1, "it is the group that starts again"


def test_a_leader_whose_engine_dies_ends_both(pair: Pair) -> None:
    pair.until_ready()
    pair.leader.behave(do="exit", code=0)
    assert (pair.leader.wait(), pair.worker.wait(LOST_SECONDS + 40)) == (51, 51)
    assert pair.worker.words()["message"].startswith("the leader, 127.0.0.1, has ")


def test_a_group_that_is_stopped_drains(pair: Pair) -> None:
    """The worker hears the same signal, and stays until the leader's requests are answered."""
    pair.until_ready()
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(pair.leader.get("/slow?seconds=3", engine=True)))
    asking.start()
    time.sleep(0.3)
    pair.worker.signal(signal.SIGTERM)
    pair.leader.signal(signal.SIGTERM)
    time.sleep(1.5)
    assert pair.worker.process.poll() is None, "the leader still needs it"
    asking.join()
    assert answers == [(200, "finished")]
    assert (pair.leader.wait(), pair.worker.wait()) == (0, 0)


def test_a_worker_that_is_stopped_alone_does_not_wait(pair: Pair) -> None:
    pair.until_ready()
    pair.worker.signal(signal.SIGTERM)
    assert pair.worker.wait(20) == 0
