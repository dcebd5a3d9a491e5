"""health.py: observations over time and what they mean."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.runtime.health import Memory, Observation, Verdict, advance, judge

SERVER = (100, 5)


def story(*looks: dict[str, Any], hang: float = 10.0) -> list[Verdict]:
    """Verdicts of successive looks, one second apart unless `at` says otherwise."""
    memory, verdicts, at = Memory(), [], 0.0
    for look in looks:
        seen = Observation(**{"at": at, "server": SERVER, **look})
        memory = advance(memory, seen)
        verdicts.append(judge(memory, seen, hang_timeout_seconds=hang))
        at = seen.at + 1
    return verdicts


def test_a_start_goes_through_its_phases() -> None:
    verdicts = story(
        {"server": None},
        {},
        {"stage": "loading the weights"},
        {"healthy": True},
        {"healthy": True, "probe": ""},
    )
    assert [v.phase for v in verdicts] == ["starting", "starting", "loading", "probing", "ready"]
    assert [v.ready for v in verdicts] == [False, False, False, False, True]
    assert all(v.live for v in verdicts)


def test_health_alone_is_not_ready_and_a_refused_probe_gives_the_reason() -> None:
    verdict = story({"healthy": True}, {"healthy": True, "probe": "the engine answered 500: head dim"})[-1]
    assert (verdict.phase, verdict.ready, verdict.live) == ("probing", False, True)
    assert verdict.reason == "the engine answered 500: head dim"


READY = {"healthy": True, "probe": ""}


def test_busy_is_not_hung() -> None:
    looks = [{**READY, "at": 5.0 * n, "load": 8, "iterations": 100.0 + n} for n in range(20)]
    assert all(verdict.ready for verdict in story(*looks))


def test_work_that_stands_still_is_hung() -> None:
    looks = [{**READY, "at": 5.0 * n, "load": 3, "iterations": 625.0} for n in range(4)]
    verdicts = story(*looks)
    assert [v.hung for v in verdicts] == [False, False, True, True]
    assert not verdicts[-1].live
    assert not verdicts[-1].ready


def test_idle_is_not_hung_and_work_that_just_came_has_time() -> None:
    idle = [{**READY, "at": 5.0 * n, "load": 0, "iterations": 7.0} for n in range(9)]
    verdicts = story(*idle, {**READY, "at": 45.0, "load": 1, "iterations": 7.0}, {**READY, "at": 50.0, "load": 1,
                     "iterations": 7.0})  # fmt: skip
    assert all(verdict.ready for verdict in verdicts)


def test_looks_without_counters_change_nothing() -> None:
    looks = [{**READY, "load": 1, "iterations": 7.0}, *([READY] * 6)]
    assert all(verdict.ready for verdict in story(*looks))
    assert story(*looks, *([READY] * 6))[-1].hung


def test_a_server_that_takes_connections_and_never_answers_is_hung() -> None:
    silent = {"healthy": None, "silent": True}
    verdicts = story(READY, *({**silent, "at": 1.0 + 5 * n} for n in range(4)))
    assert [v.hung for v in verdicts] == [False, False, False, True, True]


def test_a_silent_server_is_not_said_to_have_work_that_it_last_told_of_long_ago() -> None:
    """The last count may have been made while one request was in flight that was answered before the server froze."""
    busy = {**READY, "load": 1, "iterations": 7.0}
    silent = {"healthy": None, "silent": True}
    verdicts = story({**READY, "load": 0}, busy, READY, *({**silent, "at": 3.0 + 5 * n} for n in range(4)))
    hung = [verdict.reason for verdict in verdicts if verdict.hung]
    assert hung == ["the server takes connections, and has not answered for 11 s",
                    "the server takes connections, and has not answered for 16 s"]  # fmt: skip


@pytest.mark.parametrize(("load", "words"), [(1, "1 request waits, and"), (3, "3 requests wait, and")])
def test_what_waits_is_counted_in_words(load: int, words: str) -> None:
    looks = [{**READY, "at": 5.0 * n, "load": load, "iterations": 625.0} for n in range(4)]
    assert story(*looks)[-1].reason.startswith(words)


def test_an_engine_process_that_died_takes_readiness_not_life() -> None:
    verdict = story(READY, {"healthy": False})[-1]
    assert (verdict.phase, verdict.ready, verdict.live) == ("failed", False, True)


def test_a_stop_is_draining_whatever_else() -> None:
    assert story(READY, {**READY, "stop_asked": True})[-1].phase == "draining"


def test_a_restart_forgets_what_the_last_server_was() -> None:
    verdicts = story(
        READY, {"server": None, "retry_pending": True, "failure": ("it crashed", "")}, {"server": (200, 9)}
    )
    assert [v.phase for v in verdicts] == ["ready", "restarting", "starting"]
    assert verdicts[1].reason == "it crashed"


def test_given_up_but_kept_alive() -> None:
    verdict = story({"server": None, "given_up": True, "failure": ("too big", "use more GPUs")})[-1]
    assert (verdict.phase, verdict.ready, verdict.live) == ("failed", False, True)
    assert (verdict.reason, verdict.hint) == ("too big", "use more GPUs")


def test_a_server_that_nobody_tends_to_is_dead() -> None:
    verdicts = story(READY, {"server": None}, {"server": None, "at": 30.0})
    assert [v.live for v in verdicts] == [True, True, False]
