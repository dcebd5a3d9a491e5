"""A start that stands still and one that is merely slow, under the real processes around a stand-in for an engine."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.starting import Starting
from aim_engine.runtime.state import State

from .server import Server, fake_plan

Serve = Callable[..., Server]


def test_a_start_that_stands_still_is_tried_once_more_and_names_its_phase(serve: Serve) -> None:
    server = serve("--delay", "60", "--say", "Warming up model for the compilation...", stall_timeout_seconds=1.5,
                   max_retries=2)  # fmt: skip
    server.until(lambda: server.status().get("start", {}).get("phase") == "compile", 20)
    assert server.wait(25) == 52, server.err
    words = server.words()
    assert words["class"] == "EngineStartTimeout"
    assert re.search(r"phase compile \(compiling the model\): for [2-4] s no line", words["message"])
    assert "AIM_CACHE_DIR" in words["hint"]
    assert len(server.read("attempts.json")["attempts"]) == 2


@pytest.mark.parametrize(
    ("chatter", "limit", "delay"),
    [("INFO something else", 1.5, "5"), ("", 0.0, "5")],
    ids=["it says something", "no limit"],
)
def test_a_start_that_moves_or_may_take_any_time_is_not_ended(
    serve: Serve, chatter: str, limit: float, delay: str
) -> None:
    server = serve("--delay", delay, "--chatter", chatter, stall_timeout_seconds=limit)
    server.until_ready(20)
    assert len(server.status()["attempts"]) == 1


def test_lines_that_only_say_that_it_waits_do_not_count(serve: Serve) -> None:
    chatter = "INFO [shm_broadcast.py:681] No available shared memory broadcast block found in 60 seconds."
    server = serve("--delay", "60", "--chatter", chatter, stall_timeout_seconds=1.5)
    assert server.wait(20) == 52, server.err


def test_what_is_shown_while_it_starts_and_after(serve: Serve) -> None:
    server = serve("--delay", "4", "--say", "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]")
    server.until(lambda: server.status().get("phase") == "loading")
    start = server.status()["start"]
    assert (start["done"], start["total"], start["unit"]) == (1, 2, "shards")
    assert start["still_limit_seconds"] == 600
    assert start["eta_seconds"] is None
    assert start["eta_basis"] == "no earlier start of the same on this machine"
    ready = json.loads(server.get("/health/ready")[1])
    assert (ready["phase"], ready["reason"]) == ("loading", "loading the weights: 1 of 2 shards")
    assert 'aim_engine_start_phase_seconds{phase="load"}' in server.get("/metrics")[1]
    server.until_ready(20)
    server.until(lambda: server.status().get("start", {}).get("phase") == "ready")
    start = server.status()["start"]
    assert (start["phase"], start["eta_seconds"]) == ("ready", 0)
    assert [step["phase"] for step in start["phases"]] == ["resolve", "load"]
    assert start["seconds"] == pytest.approx(sum(step["seconds"] for step in start["phases"]), abs=0.01)
    assert "start: load" in server.err


# --- without processes


def begun(tmp_path: Path, **runtime: Any) -> tuple[Starting, State]:
    plan = fake_plan(tmp_path, **runtime)
    state = State(str(tmp_path))
    state.write("plan.json", {**plan, "checkpoint_bytes": 4 * 2**30})
    return Starting(state, read_contract(plan), {"HF_HUB_CACHE": str(tmp_path / "hub")}), state


def fetch(tmp_path: Path, size: int, name: str = "b10b.incomplete") -> None:
    file = tmp_path / "hub" / "models--org--fake" / "blobs" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as opened:
        opened.truncate(size)


def test_a_download_is_seen_in_the_folder_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.runtime.starting._LOOK_SECONDS", 0.0)
    starting, state = begun(tmp_path)
    starting.begin(2**22 + 1)
    assert state.read("progress.json")["fetches"] is True
    fetch(tmp_path, 2**30)
    starting.hear("INFO Starting to load model org/fake...")
    assert starting.look() is None
    assert state.read("progress.json")["words"] == "downloading the weights: 1.00 of 4.00 GiB"
    moved = state.read("progress.json")["moved_at"]
    assert starting.look() is None
    assert state.read("progress.json")["moved_at"] == moved
    fetch(tmp_path, 2**31)
    assert starting.look() is None
    found = state.read("progress.json")
    assert (found["done"], found["total"], found["first"], found["unit"]) == (2**31, 2**32, 2**30, "bytes")
    assert found["moved_at"] > moved


def test_a_download_that_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.runtime.starting._LOOK_SECONDS", 0.0)
    starting, _ = begun(tmp_path, stall_timeout_seconds=0.5)
    starting.begin(2**22 + 1)
    fetch(tmp_path, 2**30)
    starting.hear("INFO Starting to load model org/fake...")
    assert starting.look() is None
    time.sleep(0.6)
    error = starting.look()
    assert error is not None
    assert "1.00 of 4.00 GiB" in error.message


def test_a_watch_that_is_started_again_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    starting, state = begun(tmp_path)
    starting.begin(7)
    starting.hear("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]")
    before = state.read("progress.json")
    again = Starting(state, read_contract(state.read("plan.json")), {})
    again.begin(7)
    again.hear("INFO something")
    again.begin(7)
    after = state.read("progress.json")
    assert {**after, "moved_at": 0} == {**before, "moved_at": 0}
    assert after["moved_at"] > before["moved_at"]
    again.begin(8)
    assert state.read("progress.json")["phase"] == "resolve"
    again.forget()
    assert state.read("progress.json") is None


def test_lines_that_come_before_the_server_was_seen_count(tmp_path: Path) -> None:
    starting, state = begun(tmp_path)
    starting.hear("INFO Available KV cache memory: 11.17 GiB")
    starting.begin(9)
    assert (state.read("progress.json")["pid"], state.read("progress.json")["phase"]) == (9, "profile")
    assert state.read("figures.json")


def test_what_a_ready_server_says_is_of_no_start(tmp_path: Path) -> None:
    starting, state = begun(tmp_path)
    starting.begin(9)
    state.write("ready.json", {"pid": 9})
    starting.hear("INFO Available KV cache memory: 11.17 GiB")
    assert state.read("progress.json")["phase"] == "resolve"
    assert state.read("figures.json") is None


def test_a_frozen_container_moves_everything(tmp_path: Path) -> None:
    starting, state = begun(tmp_path, stall_timeout_seconds=100)
    starting.begin(2**22 + 1)
    before = state.read("progress.json")
    starting.frozen(1000.0)
    starting.look()
    after = state.read("progress.json")
    assert after["steps"][0][1] == pytest.approx(before["steps"][0][1] + 1000.0)
    assert after["moved_at"] >= before["moved_at"] + 1000.0


def test_what_was_ready_once_starts_no_more_where_the_state_folder_is_removed(tmp_path: Path) -> None:
    starting, state = begun(tmp_path)
    starting.begin(9)
    state.write("ready.json", {"pid": 9})
    starting.hear("INFO something")
    state.remove("ready.json", "progress.json")
    starting.hear("INFO Available KV cache memory: 11.17 GiB")
    assert state.read("progress.json") is None
    starting.forget()
    starting.hear("INFO Available KV cache memory: 11.17 GiB")
    assert state.read("progress.json")["phase"] == "profile"
