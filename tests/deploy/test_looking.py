"""One look at endpoints: the sidecar's words, Docker's own where there is none, and rates."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from aim_engine.deploy.asking import Access
from aim_engine.deploy.counters import Counters
from aim_engine.deploy.looking import Look, look, look_at_all, rates_between, two_looks, uptime_seconds
from tests.deploy.running import READY, Answering, ended, endpoint

Start = Callable[[dict[str, Any]], Answering]


def test_a_ready_one_with_the_engine_s_own_counters(answering: Start) -> None:
    sidecar = answering({"/status": {**READY, "engine": {"generation_tokens": 1}}})
    api = answering({"/metrics": "vllm:generation_tokens_total 7\n"})
    seen = look(endpoint(ports=(api.port, sidecar.port)), Access(key="s3cret"))
    assert (seen.health.word, seen.health.ready, seen.fresh) == ("ready", True, True)
    assert seen.counters.generation_tokens == 7
    assert api.asked[0][2]["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in sidecar.asked[0][2]


def test_where_the_engine_asks_for_a_key_the_sidecar_s_counters_do(answering: Start) -> None:
    sidecar = answering({"/status": {**READY, "engine": {"generation_tokens": 1}}})
    api = answering({"/metrics": (401, {"error": "no"})})
    seen = look(endpoint(ports=(api.port, sidecar.port)), Access())
    assert (seen.counters.generation_tokens, seen.fresh) == (1, False)


def test_one_that_starts_is_called_by_its_phase_and_its_engine_not_asked(answering: Start) -> None:
    loading = {"phase": "loading", "ready": False, "live": True, "reason": "shard 3 of 9\x1b[2J", "hint": ""}
    sidecar, api = answering({"/status": loading}), answering({})
    seen = look(endpoint(ports=(api.port, sidecar.port)), Access())
    assert (seen.health.word, seen.health.reason) == ("loading", "shard 3 of 9\ufffd[2J")
    assert api.asked == []


@pytest.mark.parametrize("odd", [[], "x", 5, None, {"phase": 7}, {}, (500, {"phase": "ready", "ready": True})])
def test_an_odd_status_is_not_ready(answering: Start, odd: Any) -> None:
    sidecar = answering({"/status": odd})
    seen = look(endpoint(ports=(None, sidecar.port)), Access())
    assert not seen.health.ready
    assert seen.health.word in ("no answer", "7", "unknown")


@pytest.mark.parametrize(
    ("state", "word", "ready"),
    [({}, "healthy", True), ({"Health": {"Status": "unhealthy"}}, "unhealthy", False),
     ({"Health": None}, "unknown", False)],
)  # fmt: skip
def test_without_a_published_health_port_docker_is_believed(state: Any, word: str, ready: bool) -> None:
    seen = look(endpoint(state=state), Access())
    assert (seen.health.word, seen.health.ready, seen.health.source) == (word, ready, "docker")


def test_an_ended_one_is_not_asked() -> None:
    seen = look(endpoint(state=ended(51), ports=(1, 2)), Access())
    assert (seen.health.word, seen.health.ready) == ("stopped", False)
    assert look(endpoint(state={"Status": "paused"}, ports=(1, 2)), Access()).health.word == "paused"


def test_a_silent_one_does_not_hold_up_the_others(answering: Start) -> None:
    import socket

    sidecar = answering({"/status": READY})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        dead, well = look_at_all(
            [endpoint("dead", ports=(None, silent.getsockname()[1])), endpoint("well", ports=(None, sidecar.port))], {}
        )
    assert time.monotonic() - begun < 5
    assert (dead.health.word, well.health.word) == ("no answer", "ready")
    assert dead.health.reason == "it does not answer in time"


def test_two_looks_give_tokens_per_second(answering: Start) -> None:
    counted = iter((100, 350))
    sidecar = answering({"/status": READY})
    api = answering({"/metrics": lambda _: f"vllm:generation_tokens_total {next(counted)}\n"})
    (found,) = (one.rates for one in two_looks([endpoint(ports=(api.port, sidecar.port))], {}))
    assert found is not None
    assert found.tokens_per_second == pytest.approx(250, rel=0.4)


def test_nobody_ready_is_looked_at_once(answering: Start) -> None:
    sidecar = answering({"/status": {"phase": "loading"}})
    (found,) = (one.rates for one in two_looks([endpoint(ports=(None, sidecar.port))], {}))
    assert found is None
    assert len(sidecar.asked) == 1


def test_old_counters_of_a_working_engine_are_no_rate() -> None:
    one = endpoint()

    def seen(at: float, *, running: float, fresh: bool = False) -> Look:
        counters = Counters(at=at, running=running, generation_tokens=5)
        return Look(endpoint=one, health=look(one, Access()).health, counters=counters, fresh=fresh)

    assert rates_between(seen(1, running=2), seen(2, running=2)) is None
    idle = rates_between(seen(1, running=0), seen(2, running=0))
    assert idle is not None
    assert idle.tokens_per_second == 0
    assert rates_between(seen(1, running=2, fresh=True), seen(2, running=2)) is None


def test_uptime() -> None:
    now = datetime(2026, 11, 21, 21, 36, 26, tzinfo=UTC)
    assert uptime_seconds(endpoint(), now) == pytest.approx(59.85, abs=0.1)
    assert uptime_seconds(endpoint(state=ended(0)), now) is None
    assert uptime_seconds(endpoint(state={"StartedAt": "yesterday"}), now) is None
