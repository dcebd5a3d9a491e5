"""From an engine's start to the next plan: a stand-in that says what a GPU's engine says (which can only be replayed
here), under the real processes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.backends.figures import CacheFigures
from aim_engine.catalog.remembered import recall
from aim_engine.plan import Plan, make_plan
from aim_engine.runtime import processes
from aim_engine.runtime.actual import Seen
from aim_engine.runtime.log import Log
from aim_engine.runtime.remember import MemoryReport
from aim_engine.runtime.state import State
from tests.building import MODEL, ROCM, here, request
from tests.deploy.planning import SHIPPED

from .server import Server, fake_plan

GIB = 1024**3
SAID = (
    "(Worker_TP1 pid=9) INFO Free memory on device (191.2/191.69 GiB) on startup. Desired GPU memory "
    "utilization is (0.9, 172.5 GiB). Actual usage is 7.7 GiB for weight, 2.5 GiB for peak activation, 1.25 GiB for "
    "non-torch memory, and 0.4 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with ..."
)


def planned(catalog: Any = SHIPPED) -> Plan:
    found = make_plan(request(), here(), catalog, ROCM)
    assert isinstance(found, Plan), found
    return found


def blocks_after(plan: Plan, gib: float) -> int:
    """What a GPU's cache has when the engine takes so much besides weights and cache."""
    assert plan.ledger is not None
    left = plan.ledger.budget_bytes - plan.ledger.lines[0].bytes - int(gib * GIB)
    return left // plan.ledger.block_bytes


def words_for(folder: Path, plan: Plan, *arguments: str) -> dict[str, Any]:
    """The stand-in's command with the memory of a plan for GPUs."""
    words = plan.as_json()
    return {**fake_plan(folder, *arguments), "memory": words["memory"], "occasion": words["occasion"]}


@contextmanager
def serving(folder: Path, plan: Plan, *arguments: str) -> Iterator[Server]:
    server = Server(words_for(folder, plan, *arguments), folder)
    try:
        server.until_ready()
        server.until(lambda: server.status()["memory"]["kv_cache"]["actual"])
        yield server
    finally:
        server.stop()


def test_a_start_is_shown_and_remembered_and_the_next_plan_agrees_with_it(tmp_path: Path) -> None:
    first = planned()
    blocks = blocks_after(first, 4.5)
    with serving(tmp_path, first, "--say", SAID, "--blocks", str(blocks)) as server:
        rows = {row["name"]: row for row in server.status()["memory"]["lines"]}
        server.until(lambda: server.read("memory.json"))
    assert rows["weights"]["actual_bytes"] == int(7.7 * GIB)
    assert rows["activations"]["actual_bytes"] == int(2.5 * GIB)
    assert rows["device context + collectives"]["actual_bytes"] == int(1.25 * GIB)
    assert rows["graphs"]["actual_bytes"] == pytest.approx(0.75 * GIB, abs=8 * 1024**2)
    assert rows["device context + collectives"]["predicted_bytes"] == int(2.5 * GIB)
    found, notes = recall(tmp_path / "cache", [MODEL])
    assert (len(found), notes) == (1, ())
    second = planned(replace(SHIPPED, measurements=found))
    assert second.ledger is not None
    assert second.ledger.capacity.blocks == blocks


def test_what_is_outside_of_its_range_is_said_once(tmp_path: Path) -> None:
    first = planned()
    blocks = blocks_after(first, 30)
    with serving(tmp_path, first, "--say", SAID, "--blocks", str(blocks)) as server:
        server.until(lambda: "warning" in server.err.lower() or "memory: graphs" in server.err)
        pid = next(one for one in server.tree() if b"sidecar" in Path(f"/proc/{one}/cmdline").read_bytes())
        before = server.status()["memory"]
        os.kill(pid, signal.SIGKILL)  # supervisord starts another, which must not measure again
        server.until(lambda: server.get("/status")[0] == 0)
        server.until(lambda: server.get("/health/ready")[0] == 200)
        server.until(lambda: server.status()["memory"]["kv_cache"]["actual"])
        assert server.status()["memory"] == before
    assert server.err.count("memory: graphs took") == 1
    assert server.err.count("memory: the KV cache has") == 1
    assert len(before["warnings"]) == 3  # and activations


def test_before_it_is_ready_only_what_was_predicted_is_shown(tmp_path: Path) -> None:
    server = Server(words_for(tmp_path, planned(), "--delay", "3"), tmp_path)
    try:
        server.until(server.status)
        memory = server.status()["memory"]
    finally:
        server.stop()
    assert memory["kv_cache"]["actual"] is None
    assert memory["kv_cache"]["predicted"]["blocks"] > 0
    assert {row["actual_bytes"] for row in memory["lines"]} == {None}
    assert recall(tmp_path / "cache", [MODEL]) == ((), ())


def test_a_failed_start_remembers_nothing(tmp_path: Path) -> None:
    arguments = ("--say", SAID, "--exit", "1", "--after", "0.3", "--delay", "9")
    server = Server(words_for(tmp_path, planned(), *arguments), tmp_path)
    try:
        assert server.wait() == 51
    finally:
        server.stop()
    assert recall(tmp_path / "cache", [MODEL]) == ((), ())


def test_a_cache_that_takes_nothing_is_said_and_costs_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = planned()
    words = words_for(tmp_path, plan)
    words["runtime"]["cache_dir"] = "/proc/nowhere"
    seen = Seen(said={"activations": GIB, "other": GIB, "graphs": 0}, cache=None)
    words["memory"]["cache_given"] = True
    report = MemoryReport(State(str(tmp_path)), words, Log("sidecar"))
    report.take((1, 2), seen)
    report.take((1, 2), seen)
    said = capfd.readouterr().err
    assert said.count("cannot be kept in the cache") == 1
    assert next(row for row in report.shown((1, 2))["lines"] if row["name"] == "activations")["actual_bytes"] == GIB


def test_of_what_runs_without_something_only_that_is_remembered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a failed start it runs with other options than the plan's, whose figures are not the plan's."""
    plan, state = planned(), State(str(tmp_path))
    seen = Seen(said={"activations": GIB, "other": 90 * GIB, "graphs": 0})
    state.write("attempts.json", {"attempts": [{"without": []}, {"without": ["eager"]}]})
    report = MemoryReport(state, words_for(tmp_path, plan), Log("sidecar"))
    report.take((1, 2), replace(seen, cache=CacheFigures(blocks=9, block_tokens=16, tokens=1, concurrency=1.0)))
    assert report.shown((1, 2))["kv_cache"]["actual"]["blocks"] == 9
    assert report.shown((1, 2))["warnings"] == []
    assert capfd.readouterr().err == ""
    found, _ = recall(tmp_path / "cache", [MODEL])
    assert [(one.given_up, dict(one.lines)) for one in found] == [(("eager",), {})]


def test_an_engine_that_is_not_known_is_not_remembered(tmp_path: Path) -> None:
    found = make_plan(request(), here(), SHIPPED, None)
    assert isinstance(found, Plan), found
    words = words_for(tmp_path, found)
    words["memory"]["cache_given"] = True
    report = MemoryReport(State(str(tmp_path)), words, Log("sidecar"))
    report.take((1, 2), Seen(said={"activations": GIB, "other": GIB, "graphs": 0}))
    assert not (tmp_path / "cache").exists()


def test_what_a_group_of_processes_holds(tmp_path: Path) -> None:
    """Its own pages are added up, a file that both have mapped counts once."""
    import subprocess
    import sys

    file = tmp_path / "mapped"
    file.write_bytes(b"x" * (64 << 20))
    own = (
        f"import mmap, time; f = open({str(file)!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "sum(m[::4096]); b = bytearray(b'y') * (32 << 20); print(flush=True); time.sleep(60)"
    )
    leader = subprocess.Popen([sys.executable, "-c", own], stdout=subprocess.PIPE, process_group=0)
    other = subprocess.Popen([sys.executable, "-c", own], stdout=subprocess.PIPE, process_group=leader.pid)
    try:
        for one in (leader, other):
            assert one.stdout is not None
            one.stdout.readline()
        held = processes.resident_bytes(leader.pid)
    finally:
        for one in (leader, other):
            one.kill()
            one.communicate()
    assert held is not None
    assert (64 + 2 * 32) << 20 < held < (64 + 2 * 32 + 64) << 20
    assert processes.resident_bytes(leader.pid) is None


def test_a_remembered_file_is_plain_json(tmp_path: Path) -> None:
    first = planned()
    with serving(tmp_path, first, "--say", SAID, "--blocks", str(blocks_after(first, 4.5))) as server:
        server.until(lambda: server.read("memory.json"))
    (file,) = (tmp_path / "cache" / "measured").rglob("*.json")
    words = json.loads(file.read_text())
    assert words["occasion"]["devices"] == "8 x MI300X gfx942 192 GiB"
    assert "tensor parallel 8" in words["occasion"]["terms"]


def test_what_was_given_up_is_given_up_from_the_start_the_next_time(tmp_path: Path) -> None:
    rung = {
        "name": "eager",
        "failures": ["memory"],
        "gives_up": "speed",
        "options": {"exit": []},
        "env": {},
        "unset": [],
    }
    first = {**words_for(tmp_path, planned(), "--exit", "1", "--say", "HIP out of memory"), "ladder": [rung]}
    server = Server(first, tmp_path)
    try:
        server.until_ready()
        server.until(lambda: server.read("memory.json"))
    finally:
        server.stop()
    found, _ = recall(tmp_path / "cache", [MODEL])
    assert [(one.given_up, dict(one.lines)) for one in found] == [(("eager",), {})]
    again = planned(replace(SHIPPED, measurements=found))
    assert again.as_json()["given_up"] == ["eager"]
    assert any("AIM_FORGET=1 tries again" in note for note in again.notes)
    second = Server({**first, "given_up": ["eager"]}, tmp_path)
    try:
        second.until_ready()
        assert [attempt["without"] for attempt in second.status()["attempts"]] == [["eager"]]
    finally:
        second.stop()
