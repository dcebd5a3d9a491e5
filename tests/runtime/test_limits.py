"""limits.py: when a running server is to be ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from aim_engine.errors import EngineHungError, EngineStartTimeoutError
from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.limits import Standing, over, seconds_left

from .server import fake_plan

IN_TIME = Standing(seconds=59, was_ready=False)
LATE = Standing(seconds=61, was_ready=False, said="loading the weights: 38%")
SILENT = Standing(seconds=61, was_ready=False)
OLD = Standing(seconds=10_000, was_ready=True)
HUNG = Standing(seconds=10_000, was_ready=True, hung=True, said="1 request waits")
UNREADY = Standing(seconds=5, was_ready=False, hung=True)


@pytest.mark.parametrize(
    ("standing", "kind", "text"),
    [
        (IN_TIME, None, ""),
        (LATE, EngineStartTimeoutError, "not ready after 60 s: loading the weights: 38%"),
        (SILENT, EngineStartTimeoutError, "it said nothing"),
        (OLD, None, ""),
        (HUNG, EngineHungError, "1 request waits"),
        (UNREADY, None, ""),  # only one that was ready can hang; before that it stands still
    ],
)
def test_what_is_over_a_limit(tmp_path: Path, standing: Standing, kind: type[Exception] | None, text: str) -> None:
    found = over(standing, read_contract(fake_plan(tmp_path)))
    assert (type(found) if found else None) is kind
    assert text in str(found)


@pytest.mark.parametrize(("on_host", "words"), [(True, "memory left"), (False, "the driver's log")])
def test_only_of_an_accelerator_the_driver_is_asked(tmp_path: Path, on_host: bool, words: str) -> None:
    found = over(HUNG, read_contract(fake_plan(tmp_path, computes_on_host=on_host)))
    assert found is not None
    assert words in found.hint


def test_the_time_of_three_starts_is_for_all_of_them(tmp_path: Path) -> None:
    contract = read_contract(fake_plan(tmp_path, start_timeout_seconds=100))
    assert [seconds_left(spent, contract) for spent in (0, 250, 301)] == [300, 50, -1]
