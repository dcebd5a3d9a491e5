"""start_report.py: what is said of a start, and what is kept of it for the next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.measurement import Occasion
from aim_engine.catalog.past_starts import PastStart, keep_start, recall_start
from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.health import Verdict
from aim_engine.runtime.log import Log
from aim_engine.runtime.progress import mark_of
from aim_engine.runtime.start import Start, begin, marked
from aim_engine.runtime.start_report import StartReport
from aim_engine.runtime.state import State

from .server import fake_plan

OCCASION = Occasion(engine="vllm 0.32", checkpoint="org/fake", revision="", devices="1 x CPU", terms=())
LAST = PastStart(occasion=OCCASION, given_up=(), seconds={"resolve": 10.0, "load": 50.0}, date="2026-10-10T12:00:00Z")
LOADING = Verdict(phase="loading", reason="loading the weights")
READY = Verdict(phase="ready", ready=True)


KNOWN = OCCASION.as_json()


def report(tmp_path: Path, *, occasion: Any = KNOWN, level: str = "info") -> tuple[StartReport, State]:
    plan = {**fake_plan(tmp_path), "occasion": occasion}
    state = State(str(tmp_path))
    return StartReport(state, read_contract(plan), plan, Log("sidecar", level=level)), state


def started(state: State, ago: float = 30.0, words: str = "Starting to load model x") -> Start:
    mark, now = mark_of(words), time.monotonic()
    assert mark
    start = marked(begin(7, now - ago), mark, now - ago + 10)
    state.write("progress.json", start.as_json())
    return start


def test_the_time_that_is_left_is_in_the_reason_and_in_the_status(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    keep_start(tmp_path / "cache", LAST)
    said, state = report(tmp_path)
    assert said.look(LOADING) == LOADING  # nothing has begun
    assert said.shown(LOADING) == {}
    started(state)
    assert said.look(LOADING).reason == "loading the weights; about 30 s left"
    shown = said.shown(LOADING)
    assert (shown["phase"], shown["unit"]) == ("load", None)
    assert shown["eta_seconds"] == pytest.approx(30, abs=1)
    assert shown["eta_basis"] == "the last start of the same on this machine"
    assert [step["phase"] for step in shown["phases"]] == ["resolve", "load"]
    said.look(LOADING)
    assert capfd.readouterr().err.count("start: load, about 30 s left") == 1


def test_an_error_of_the_engine_is_not_given_a_time(tmp_path: Path) -> None:
    keep_start(tmp_path / "cache", LAST)
    said, state = report(tmp_path)
    started(state)
    assert said.look(LOADING, broken=True) == LOADING


def test_a_start_that_has_failed_has_no_time_left(tmp_path: Path) -> None:
    keep_start(tmp_path / "cache", LAST)
    said, state = report(tmp_path)
    started(state)
    failed = Verdict(phase="failed", reason="stands still")
    assert said.look(failed) == failed
    assert said.shown(failed)["eta_seconds"] is None


@pytest.mark.parametrize("occasion", [None, {**OCCASION.as_json(), "engine": ""}])
def test_of_an_engine_that_is_not_known_nothing_is_told_or_kept(tmp_path: Path, occasion: Any) -> None:
    keep_start(tmp_path / "cache", LAST)
    said, state = report(tmp_path, occasion=occasion)
    started(state)
    assert said.look(LOADING) == LOADING
    state.write("ready.json", {"pid": 7, "monotonic": time.monotonic() - 3})
    said.look(READY)
    assert recall_start(tmp_path / "cache", OCCASION, [])[0] == LAST


def test_a_start_that_became_ready_is_kept_without_its_download(tmp_path: Path) -> None:
    said, state = report(tmp_path)
    start = started(state)
    steps = (*start.steps[:1], ("download", start.began), ("load", start.began + 5))
    state.write("progress.json", replace(start, steps=steps).as_json())
    ready = start.began + 12
    state.write("ready.json", {"pid": 7, "monotonic": ready})
    said.look(READY)
    found, notes = recall_start(tmp_path / "cache", OCCASION, [])
    assert found is not None
    assert (dict(found.seconds), notes) == ({"resolve": 10.0, "load": 7.0}, ())
    shown = said.shown(READY)
    assert (shown["phase"], shown["seconds"], shown["eta_seconds"]) == ("ready", 22.0, 0)
    assert [step["seconds"] for step in shown["phases"]] == [10.0, 5.0, 7.0]


def test_the_next_start_of_the_same_run_knows_it(tmp_path: Path) -> None:
    said, state = report(tmp_path)
    start = started(state)
    assert said.look(LOADING) == LOADING
    state.write("ready.json", {"pid": 7, "monotonic": start.began + 15})
    said.look(READY)
    state.remove("ready.json")
    state.write("progress.json", replace(started(state, ago=12), pid=8).as_json())
    until = time.monotonic() + 5
    while said.look(LOADING) == LOADING:
        assert time.monotonic() < until, said.shown(LOADING)["eta_basis"]
        time.sleep(0.01)
    assert said.shown(LOADING)["eta_basis"] == "the last start of the same on this machine"


def test_its_last_lines_are_waited_for(tmp_path: Path) -> None:
    said, state = report(tmp_path)
    started(state)
    state.write("ready.json", {"pid": 7, "monotonic": time.monotonic()})
    said.look(READY)
    assert recall_start(tmp_path / "cache", OCCASION, [])[0] is None


@pytest.mark.parametrize("without", [(), ("eager",)])
def test_what_was_given_up_is_part_of_the_occasion(tmp_path: Path, without: Sequence[str]) -> None:
    keep_start(tmp_path / "cache", replace(LAST, given_up=("eager",)))
    said, state = report(tmp_path)
    started(state)
    state.write("attempts.json", {"attempts": [], "rungs": list(without)})
    assert ("left" in said.look(LOADING).reason) is bool(without)


def test_a_damaged_file_is_one_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keep_start(tmp_path / "cache", LAST).write_text("{")
    said, state = report(tmp_path)
    started(state)
    for _ in range(3):
        assert said.look(LOADING) == LOADING
    assert capfd.readouterr().err.count("cannot be read") == 1


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cache").write_text("a file")
    said, state = report(tmp_path)
    started(state)
    state.write("ready.json", {"pid": 7, "monotonic": time.monotonic() - 3})
    assert said.look(READY) == READY
    assert capfd.readouterr().err.count("the next start will not know how long it takes") == 1
