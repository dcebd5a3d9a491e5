"""Endpoints over time: rates, restarts and their GPUs' sensors."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.deploy.counters import Counters
from aim_engine.deploy.looking import Health, Look
from aim_engine.deploy.watching import Watch, engine_restarts
from aim_engine.hardware.sensors import Sensors
from tests.deploy.running import endpoint

READY = Health(word="ready", source="sidecar", ready=True, live=True)


def seen(at: float, tokens: float | None, *, fresh: bool = True, name: str = "one", **more: Any) -> Look:
    counters = Counters(at=at, generation_tokens=tokens, running=2)
    return Look(endpoint=endpoint(name, **more), health=READY, counters=counters, fresh=fresh)


def speeds(*looks: Look) -> list[float | None]:
    watch = Watch(read=lambda _: Sensors())
    return [watch.rows([one])[0].tokens_per_second for one in looks]


def test_the_first_look_has_no_rate_and_every_other_one_since_the_last() -> None:
    assert speeds(seen(0, 10), seen(2, 30), seen(4, 30)) == [None, 10.0, 0.0]


def test_counters_that_are_seconds_old_are_a_rate_over_a_longer_time() -> None:
    looks = [seen(at, 100 * (at // 5), fresh=False) for at in range(0, 21, 2)]
    found = speeds(*looks)
    assert found[:6] == [None] * 6
    assert found[6] == pytest.approx(200 / 12)
    assert all(one == pytest.approx(20, abs=9) for one in found[6:])


def test_who_is_gone_is_forgotten() -> None:
    watch = Watch(read=lambda _: Sensors())
    watch.rows([seen(0, 10)])
    watch.rows([])
    assert watch.rows([seen(9, 100)])[0].tokens_per_second is None


def test_gpus_are_added_up() -> None:
    known = {"a": Sensors(memory_used_bytes=1, memory_total_bytes=4, power_watts=100.0, temperature_celsius=50.0),
             "b": Sensors(memory_used_bytes=2, memory_total_bytes=4, temperature_celsius=60.0)}  # fmt: skip
    (row,) = Watch(read=known.__getitem__).rows([seen(0, 0, labels={"gpus": "a,b"})])
    assert row.sensors == Sensors(memory_used_bytes=3, memory_total_bytes=8, temperature_celsius=60.0)


def test_both_kinds_of_restarts_count() -> None:
    (row,) = Watch(read=lambda _: Sensors()).rows([seen(0, 0, RestartCount=2)])
    assert row.restarts == 2
    assert engine_restarts({"attempts": [{}, {}, {}]}) == 2
    assert engine_restarts({"attempts": "x"}) == 0
