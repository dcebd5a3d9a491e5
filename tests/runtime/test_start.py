"""start.py and time_left.py: phases, bytes, what stands still, and how long is left. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aim_engine.runtime.fetched import Fetched
from aim_engine.runtime.progress import PHASES, mark_of
from aim_engine.runtime.start import Start, begin, fetched, frozen, marked, moved, read_start, stalled
from aim_engine.runtime.time_left import BOTH, FETCHES, LAST_START, SLOWER, SPEED, UNKNOWN, in_words, time_left

GIB = 1024**3
PAST = {"resolve": 10.0, "load": 20.0, "compile": 30.0, "warm": 5.0}


def loading(*, fetches: bool = False, at: float = 10.0) -> Start:
    mark = mark_of("Starting to load model org/x...")
    assert mark
    return marked(begin(7, 0.0, fetches=fetches), mark, at)


def shards(start: Start, done: int, total: int, at: float) -> Start:
    mark = mark_of(f"Loading safetensors checkpoint shards: 1% Completed | {done}/{total} [00:00<?, ?it/s]")
    assert mark
    return marked(start, mark, at)


def seen(start: Start, there: int, at: float, *, whole: bool, total: int | None, coming: bool = True) -> Start:
    return fetched(start, Fetched(whole=whole, coming=coming, bytes=there), at, total=total)


# --- downloads


def test_a_download_lies_within_loading_and_ends_with_the_last_file() -> None:
    start = seen(loading(fetches=True), 1 * GIB, 11.0, whole=False, total=16 * GIB)
    assert (start.phase, start.done, start.total, start.first) == ("download", GIB, 16 * GIB, GIB)
    assert start.words == "downloading the weights: 1.00 of 16.00 GiB"
    start = seen(start, 4 * GIB, 20.0, whole=False, total=16 * GIB)
    assert (start.done, start.first, start.moved_at) == (4 * GIB, GIB, 20.0)
    start = seen(start, 16 * GIB, 60.0, whole=True, total=16 * GIB)
    assert [phase for phase, _ in start.steps] == ["resolve", "load", "download", "load"]
    assert start.words == "loading the weights"
    assert start.seconds(70.0) == {"resolve": 10.0, "load": 11.0, "download": 49.0}


def test_without_a_file_that_was_begun_nothing_is_downloaded() -> None:
    """A form of checkpoint that we do not know of is never whole to us, and may be loaded all the same."""
    start = loading(fetches=True)
    assert seen(start, 5, 11.0, whole=False, total=None, coming=False) == start


def test_bytes_that_do_not_grow_are_no_movement() -> None:
    start = seen(loading(fetches=True), GIB, 11.0, whole=False, total=None)
    assert seen(start, GIB, 50.0, whole=False, total=None).moved_at == start.moved_at
    assert seen(start, GIB - 1, 50.0, whole=False, total=None).moved_at == 50.0  # begun anew


def test_a_total_that_was_reckoned_too_low_is_none() -> None:
    start = seen(loading(fetches=True), 5 * GIB, 11.0, whole=False, total=4 * GIB)
    assert start.total == 0
    assert start.words == "downloading the weights: 5.00 GiB"


def test_once_shards_are_loaded_nothing_is_downloaded() -> None:
    start = shards(seen(loading(fetches=True), GIB, 11.0, whole=False, total=None), 0, 8, 30.0)
    assert start.phase == "load"
    assert seen(start, 2 * GIB, 31.0, whole=False, total=None) == start


def test_that_it_loads_is_said_before_it_downloads() -> None:
    start = seen(loading(fetches=True), GIB, 11.0, whole=False, total=None)
    mark = mark_of("Starting to load model org/x...")
    assert mark
    assert marked(start, mark, 12.0).phase == "download"


# --- standing still


@pytest.mark.parametrize(
    ("asked", "still", "ends"),
    [(None, 599, False), (None, 600, True), (30.0, 29, False), (30.0, 30, True), (0.0, 10_000_000, False)],
)
def test_a_phase_may_stand_still_for_its_limit(asked: float | None, still: float, ends: bool) -> None:
    start = moved(loading(), 100.0)
    assert (stalled(start, 100.0 + still, asked) is not None) is ends


def test_what_is_said_of_a_download_that_stands_still() -> None:
    error = stalled(seen(loading(fetches=True), GIB, 11.0, whole=False, total=16 * GIB), 400.0, None)
    assert error is not None
    assert error.code == 52
    for text in ("phase download", "1.00 of 16.00 GiB", "390 s"):
        assert text in error.message
    for text in ("HTTPS_PROXY", "HF_ENDPOINT", "AIM_STALL_TIMEOUT"):
        assert text in error.hint


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_its_own_words(phase: str) -> None:
    error = stalled(replace(begin(7, 0.0), steps=((phase, 0.0),)), 5000.0, None)
    assert error is not None
    assert f"phase {phase} (" in error.message


def test_a_start_that_is_slow_but_moves_is_never_ended() -> None:
    start = loading()
    for second in range(0, 100_000, 599):
        assert stalled(start, float(second), None) is None
        start = moved(start, float(second))


def test_a_pause_of_the_whole_container_is_no_one_s_stall() -> None:
    start = frozen(loading(), 5000.0)
    assert stalled(start, 5100.0, None) is None
    assert start.seconds(5100.0) == {"resolve": 10.0, "load": 90.0}


def test_as_json_and_back() -> None:
    start = shards(loading(), 3, 8, 12.0)
    assert read_start(json.loads(json.dumps(start.as_json()))) == start
    damages: tuple[Any, ...] = (
        None,
        {},
        [],
        {"steps": 5},
        {**start.as_json(), "steps": [["nonsense", 1.0]]},
        {"stage": "x"},
    )
    for damaged in damages:
        assert read_start(damaged) is None


# --- the time that is left


def test_without_an_earlier_start_there_is_no_number() -> None:
    left = time_left(loading(), 12.0, {})
    assert (left.seconds, left.basis) == (None, UNKNOWN)


@pytest.mark.parametrize(
    ("at", "seconds"),
    [(10.0, 55.0), (20.0, 45.0), (30.0, 35.0), (36.0, 35.0)],  # and a little longer than the last time is nothing
)
def test_the_last_start_tells(at: float, seconds: float) -> None:
    left = time_left(loading(), at, PAST)
    assert (left.seconds, left.basis) == (seconds, LAST_START)


def test_far_beyond_the_last_start_nothing_is_known_but_its_own_pace() -> None:
    assert time_left(loading(), 60.0, PAST).seconds is None
    assert time_left(loading(), 60.0, PAST).basis == SLOWER
    assert time_left(shards(loading(), 5, 10, 55.0), 60.0, PAST).seconds == 50.0 + 35.0


def test_what_the_last_start_did_not_do_is_not_reckoned() -> None:
    start = replace(loading(), steps=((("load"), 0.0), ("graphs", 10.0)))
    assert time_left(start, 11.0, PAST).seconds == 5.0
    assert time_left(start, 60.0, PAST).seconds is None


def test_a_download_by_its_bytes() -> None:
    start = seen(loading(fetches=True), 0, 10.0, whole=False, total=10 * GIB)
    assert time_left(start, 12.0, PAST).seconds is None
    start = seen(start, 1 * GIB, 20.0, whole=False, total=10 * GIB)
    assert time_left(start, 20.0, {}).seconds == pytest.approx(90.0)
    assert time_left(start, 20.0, {}).basis == SPEED
    assert time_left(start, 20.0, PAST).seconds == pytest.approx(90.0 + 55.0)
    assert time_left(start, 20.0, PAST).basis == BOTH


def test_what_was_there_before_is_no_speed() -> None:
    start = seen(loading(fetches=True), 8 * GIB, 10.0, whole=False, total=10 * GIB)
    start = seen(start, 9 * GIB, 20.0, whole=False, total=10 * GIB)
    assert time_left(start, 20.0, {}).seconds == pytest.approx(10.0)


def test_before_a_download_nothing_is_known() -> None:
    left = time_left(begin(7, 0.0, fetches=True), 3.0, PAST)
    assert (left.seconds, left.basis) == (None, FETCHES)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "a few seconds"), (31, "about 40 s"), (90, "about 2 min"), (3599, "about 60 min"), (7200, "about 2.0 h")],
)
def test_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
