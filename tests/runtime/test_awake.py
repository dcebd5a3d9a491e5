"""awake.py: a clock that leaves out what a frozen container could not use, and who goes by it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aim_engine.runtime.awake import Awake
from aim_engine.runtime.history import History
from aim_engine.runtime.processes import descendants
from aim_engine.runtime.signals import Signals
from aim_engine.runtime.state import State

from .server import Server

Serve = Callable[..., Server]


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_ticks_that_come_in_time_are_all_awake() -> None:
    clock = Clock()
    awake = Awake(clock)
    for _ in range(10):
        clock.now += 1.0
        assert awake.tick() == 0
    assert awake.now() == clock.now


def test_a_tick_that_comes_far_too_late_shows_how_long_everything_stood_still() -> None:
    clock = Clock()
    awake = Awake(clock)
    clock.now += 36.0
    assert awake.tick() == 35.0  # a tick takes up to a second
    assert awake.tick() == 0
    clock.now += 1.0
    assert awake.now() == 1000.0 + 2.0
    clock.now += 50.0
    assert awake.now() == 1000.0 + 3.0  # asking is a tick too


def test_an_attempt_s_time_leaves_out_what_it_was_frozen_for(tmp_path: Path) -> None:
    clock = Clock()
    history = History(State(str(tmp_path)), clock=clock)
    history.frozen(100.0)  # of no attempt: forgotten
    history.begin(7)
    clock.now += 40.0
    history.frozen(35.0)
    assert history.seconds() == 5.0
    assert History(State(str(tmp_path)), clock=clock).seconds() == 5.0  # a new watch knows it too
    clock.now += 1.0
    history.frozen(0.5)
    assert history.seconds() == 5.5


def test_a_wait_does_not_end_early_because_it_was_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    clock = Clock()

    def never() -> bool:
        looks.append(clock.now)
        return False

    def passes(kinds: object, seconds: float) -> None:
        clock.now += 60.0 if len(looks) == 2 else seconds

    monkeypatch.setattr(signal, "sigtimedwait", passes)
    assert not Signals(clock).wait(3.0, never, step=0.5)
    assert len(looks) == 6  # 0, 0.5, then a step that took a minute and counts as one second, and three more


def freeze(server: Server, seconds: float) -> None:
    """As `docker pause` does: everything at once."""
    everybody = [server.process.pid, *(process.identity.pid for process in descendants(server.process.pid))]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)


def test_a_pause_does_not_count_as_start_time(serve: Serve) -> None:
    server = serve("--delay", "2", start_timeout_seconds=4.0)
    server.until(lambda: server.read("attempts.json"))
    freeze(server, 4.5)
    server.until_ready(4)
    assert server.read("attempts.json")["attempts"][0]["frozen_seconds"] > 3


def test_a_pause_does_not_count_as_a_hang(serve: Serve) -> None:
    server = serve("--busy", hang_timeout_seconds=3.0)
    server.until_ready()
    time.sleep(2.5)  # for two counts
    freeze(server, 4.0)
    time.sleep(0.5)
    assert server.get("/health/live")[0] == 200
    assert "not advanced" not in server.err


def test_a_hang_is_a_hang_after_a_pause_too(serve: Serve) -> None:
    server = serve(hang_timeout_seconds=2.0)
    server.until_ready()
    server.behave(do="freeze")
    freeze(server, 1.0)
    assert server.wait(20) == 53
