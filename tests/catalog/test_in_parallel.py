"""Work in parallel: order, bounds, failures, and silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from aim_engine.catalog.in_parallel import THREADS, SilenceError, in_parallel


def test_results_come_in_the_items_order() -> None:
    told: list[tuple[int, int]] = []

    def work(item: int, heard: Callable[[], None]) -> int:
        time.sleep(0.01 * (item % 3))
        return item * item

    found = in_parallel(work, range(50), seconds=5, told=lambda done, total: told.append((done, total)))
    assert found == [item * item for item in range(50)]
    assert told == sorted(told)
    assert in_parallel(work, [], seconds=5) == []


def test_only_so_many_at_once() -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def work(item: int, heard: Callable[[], None]) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.005)
        with lock:
            at_once -= 1

    in_parallel(work, range(100), seconds=5)
    assert 1 < most <= THREADS


def test_the_first_failure_ends_it() -> None:
    begun: list[int] = []

    def work(item: int, heard: Callable[[], None]) -> None:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        time.sleep(0.02)

    with pytest.raises(ValueError, match="three"):
        in_parallel(work, range(1000), seconds=5)
    assert len(begun) < 200


def test_silence_is_waited_for_only_so_long() -> None:
    release, begun = threading.Event(), []

    def work(item: int, heard: Callable[[], None]) -> None:
        begun.append(item)
        if item:
            release.wait(10)

    began = time.monotonic()
    with pytest.raises(SilenceError):
        in_parallel(work, range(100), seconds=0.2)
    assert 0.15 < time.monotonic() - began < 9
    release.set()
    time.sleep(0.05)
    assert len(begun) <= THREADS + 1  # nobody began anything more


def test_a_sign_of_life_is_not_silence() -> None:
    def work(item: int, heard: Callable[[], None]) -> str:
        for _ in range(6):
            time.sleep(0.1)
            heard()
        return "done"

    assert in_parallel(work, [1], seconds=0.3) == ["done"]
