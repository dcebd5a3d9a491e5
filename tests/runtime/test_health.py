"""health.py: observations over time and what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from aim_engine.runtime.canary_times import canary_for
from aim_engine.runtime.copies import copies_of
from aim_engine.runtime.health import Memory, Observation, Verdict, advance, heed, judge
from aim_engine.runtime.observations import work

SERVER = (100, 5)


def story(*looks: dict[str, Any], hang: float = 10.0) -> list[Verdict]:
    """Verdicts of successive looks, one second apart unless `at` says otherwise."""
    memory, verdicts, at = Memory(), [], 0.0
    for look in looks:
        seen = Observation(**{"at": at, "server": SERVER, **look})
        memory = advance(memory, seen)
        verdicts.append(judge(memory, seen, hang_timeout_seconds=hang))
        memory = heed(memory, verdicts[-1])
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


def test_a_server_that_takes_no_connection_has_failed_and_is_no_hang() -> None:
    """It is about to end, and its end is noticed."""
    verdicts = story(READY, *({"healthy": None, "at": 1.0 + 5 * n} for n in range(9)))
    assert {(v.phase, v.hung, v.live, v.reason) for v in verdicts[1:]} == {
        ("failed", False, True, "the server does not take connections")
    }


def test_a_silent_server_is_not_said_to_have_work_that_it_last_told_of_long_ago() -> None:
    """The last count may have been made while one request was in flight that was answered before the server froze."""
    busy = {**READY, "load": 1, "iterations": 7.0}
    silent = {"healthy": None, "silent": True}
    verdicts = story({**READY, "load": 0}, busy, READY, *({**silent, "at": 3.0 + 5 * n} for n in range(4)))
    hung = [verdict.reason for verdict in verdicts if verdict.hung]
    assert hung == ["the server takes connections, and has not answered for 11 s"] * 2


@pytest.mark.parametrize(("load", "words"), [(1, "1 request waits, and"), (3, "3 requests wait, and")])
def test_what_waits_is_counted_in_words(load: int, words: str) -> None:
    looks = [{**READY, "at": 5.0 * n, "load": load, "iterations": 625.0} for n in range(4)]
    assert story(*looks)[-1].reason.startswith(words)


def test_an_engine_process_that_died_takes_readiness_not_life() -> None:
    verdict = story(READY, {"healthy": False})[-1]
    assert (verdict.phase, verdict.ready, verdict.live) == ("failed", False, True)


def test_a_server_that_goes_silent_as_it_ends_itself_is_not_ready_again() -> None:
    gone = {"healthy": None, "silent": True}
    verdicts = story(READY, {"healthy": False}, gone, gone, READY)
    assert [verdict.phase for verdict in verdicts] == ["ready", "failed", "failed", "failed", "ready"]


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


# --- hung or busy: histories of counts, and the canary


LIMIT = 12.0  # counted every 3 s


def counts(*looks: dict[str, Any], every: float = 3.0, start: float = 0.0) -> list[dict[str, Any]]:
    """Looks at a ready server, each with a count."""
    return [{**READY, "load": 0, "queue": 0, "at": start + every * n, **look} for n, look in enumerate(looks)]


def still(times: int, **look: Any) -> list[dict[str, Any]]:
    return [look] * times


def silence(times: int, **work: Any) -> list[dict[str, Any]]:
    """A canary that is sent, and not answered; so many times."""
    sent: dict[str, Any] = {"canary_since": 3.0, "iterations": 7.0, **work}
    return [sent, {"canary": "silent", "iterations": 7.0, **work}] * times


def cpu(*seconds: float) -> list[dict[str, Any]]:
    """One request whose step goes on, and the CPU time that it has taken by then."""
    return [{"load": 1, "queue": 1, "iterations": 7.0, "worked_seconds": each} for each in seconds]


BUSY: dict[str, list[dict[str, Any]]] = {
    "nothing to do for long": counts(*still(9, iterations=7.0)),
    "steps are made": counts(*({"load": 4, "queue": 4, "iterations": 7.0 + n} for n in range(9))),
    "a long prefill in several steps: only the cache's share moves": counts(
        *({"load": 1, "queue": 1, "iterations": 7.0, "marks": (0.1 * n,)} for n in range(9))
    ),
    "a long prefill in one step, on a host that computes": counts(*cpu(*range(0, 27, 3))),
    "the same on a machine that leaves it an eighth of a core": counts(*cpu(*(0.4 * n for n in range(9)))),
    "a kernel is compiled for less than five times the limit": counts(*cpu(*range(0, 57, 3))),
    "a full queue: one runs, many wait": counts(
        *({"load": 300, "queue": 300, "waiting": 299, "iterations": 7.0 + n} for n in range(9))
    ),
    "a client that does not read its answer: the engine answers others": counts(
        *({"load": 1, "queue": 0, "iterations": 7.0 + n // 2} for n in range(9))
    ),
    "work that has just come after a long rest": counts(
        *still(9, iterations=7.0), *still(3, load=2, queue=1, iterations=7.0)
    ),
    "it sleeps, as it was told to": counts(*still(9, load=2, queue=0, iterations=7.0, asleep=True)),
    "one canary is not answered, the next is": counts(
        {"iterations": 7.0}, {"canary_since": 3.0, "iterations": 7.0}, {"canary": "silent", "iterations": 7.0},
        {"canary_since": 9.0, "iterations": 7.0}, {"canary": "answered", "iterations": 8.0}, *still(5, iterations=8.0),
    ),
    "canaries are refused: the queue is full, the key is another": counts(
        {"iterations": 7.0}, *({**look, **({"canary": "refused"} if "canary" in look else {})} for look in silence(4))
    ),
    "a canary is silent where a request came meanwhile, which is answered": counts(
        {"iterations": 7.0}, {"canary_since": 3.0, "iterations": 7.0}, {"canary": "silent", "iterations": 9.0},
        {"canary_since": 9.0, "iterations": 9.0}, {"canary": "silent", "iterations": 9.0}, *still(3, iterations=9.0),
    ),
    "the same, answered while the canary is still waited for; the next is silent too": counts(
        {"iterations": 7.0},
        *({"canary_since": 3.0, "iterations": 7.0}, {"canary_since": 3.0, "iterations": 8.0},
          {"canary": "silent", "iterations": 8.0}),
        *({"canary_since": 12.0, "iterations": 8.0}, {"canary": "silent", "iterations": 8.0}),
        *still(3, iterations=8.0),
    ),
    "a client that reads nothing, and the engine idle: canaries are answered": counts(
        *({"load": 1, "queue": 0, "iterations": 7.0, **({"canary": "answered"} if n % 3 == 2 else {})}
          for n in range(12))
    ),
    "a canary is silent while another request waits": counts(
        {"iterations": 7.0},
        *silence(2, load=1, queue=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("history", BUSY.values(), ids=BUSY)
def test_what_is_busy_is_not_hung(history: list[dict[str, Any]]) -> None:
    assert [verdict.reason for verdict in story(*history, hang=LIMIT) if verdict.hung] == []


HUNG: dict[str, tuple[list[dict[str, Any]], float, str]] = {
    "work, and nothing moves": (
        counts(*still(9, load=2, queue=2, iterations=7.0)), 12.0, "2 requests wait, and the engine has not advanced",
    ),
    "it is stopped in the middle of a step: the CPU time stands still": (
        counts(*cpu(0, 3, 6), *cpu(*[6.0] * 8)), 18.0, "1 request waits, and the engine has not advanced",
    ),
    "beside a GPU threads that wait take a little CPU time": (
        counts(*cpu(*(0.2 * n for n in range(9)))), 12.0, "1 request waits, and the engine has not advanced",
    ),
    "it computes for ever": (
        counts(*cpu(*range(0, 90, 3))), 60.0, "1 request waits, and the engine has computed for 60 s",
    ),
    "it takes nothing in": (
        counts(*still(9, load=1, queue=0, iterations=7.0)), 12.0, "1 request waits, and",
    ),
    "it takes nothing in, and refuses canaries": (
        counts(*({"load": 1, "queue": 0, "iterations": 7.0, **({"canary": "refused"} if n % 3 == 2 else {})}
                 for n in range(9))), 12.0, "1 request waits, and",
    ),
    "the clients have left, and what it was doing it does still": (
        counts(*still(3, load=1, queue=1, iterations=7.0), *still(9, load=0, queue=1, iterations=7.0)), 12.0,
        "1 request waits, and",
    ),
    "idle, and two canaries are not answered": (
        counts({"iterations": 7.0}, *silence(2)), 12.0,
        "the engine is idle, and twice in a row it has not answered a request for one token within 6 s",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("history", "at", "words"), HUNG.values(), ids=HUNG)
def test_what_hangs_is_hung_when_its_time_is_up(history: list[dict[str, Any]], at: float, words: str) -> None:
    verdicts = story(*history, hang=LIMIT)
    first = next(look["at"] for look, verdict in zip(history, verdicts, strict=True) if verdict.hung)
    assert first == at
    assert not verdicts[-1].live
    assert next(verdict for verdict in verdicts if verdict.hung).reason.startswith(words)


def test_what_moves_as_it_is_ended_makes_a_hung_server_no_better() -> None:
    looks = counts({"iterations": 7.0}, *silence(2), {"iterations": 8.0}, {"server": (200, 9)})
    assert [verdict.hung for verdict in story(*looks, hang=LIMIT)[-3:]] == [True, True, False]


def asked(*looks: dict[str, Any], every: float = 30.0) -> list[float]:
    """When a canary is due; each is answered at the next look."""
    memory, due = Memory(), list[float]()
    since: float | None = None
    for look in looks:
        canary = "answered" if since is not None else None
        seen = Observation(**{"server": SERVER, "canary": canary, **look})
        memory, since = advance(memory, seen), None
        if canary_for(memory, seen, every_seconds=every, hang_timeout_seconds=LIMIT) is not None:
            due.append(seen.at)
            since = seen.at
    return due


@pytest.mark.parametrize(
    ("looks", "every", "at"),
    [
        pytest.param(still(25, iterations=7.0), 30.0, [30.0, 63.0], id="idle: every so often, answers not counted in"),
        pytest.param(still(25, iterations=7.0), 0.0, [], id="0 is never"),
        pytest.param([{"iterations": float(n // 5)} for n in range(25)], 30.0, [], id="a request now and then will do"),
        pytest.param(still(25, load=2, queue=2, iterations=7.0), 30.0, [], id="work that both know of"),
        pytest.param(still(4, load=1, queue=0, iterations=7.0), 30.0, [3.0, 9.0], id="only the server knows of work"),
        pytest.param(still(4, load=0, queue=1, iterations=7.0), 0.0, [3.0, 9.0], id="only the engine does; 0 too"),
        pytest.param(still(25, iterations=7.0, asleep=True), 30.0, [], id="asleep"),
        pytest.param(still(25, iterations=7.0, stop_asked=True), 30.0, [], id="it is being stopped"),
        pytest.param(still(25, iterations=7.0, healthy=None, silent=True), 30.0, [], id="the server itself is silent"),
        pytest.param(still(25, iterations=7.0, probe=None), 30.0, [], id="it was never ready"),
    ],
)
def test_when_a_canary_is_sent(looks: list[dict[str, Any]], every: float, at: list[float]) -> None:
    assert asked(*counts(*looks), every=every) == at


def test_a_second_canary_follows_an_unanswered_one_at_once() -> None:
    memory = Memory()
    looks = counts({"iterations": 7.0}, {"iterations": 7.0, "canary_since": 3.0},
                   {"iterations": 7.0, "canary": "silent"})  # fmt: skip
    due = []
    for look in looks:
        seen = Observation(**{"server": SERVER, **look})
        memory = advance(memory, seen)
        due.append(canary_for(memory, seen, every_seconds=600.0, hang_timeout_seconds=LIMIT))
    assert due == [None, None, ""]


def test_there_is_one_canary_at_a_time() -> None:
    memory, due = Memory(), []
    for look in counts(*still(11, iterations=7.0), *still(5, iterations=7.0, canary_since=30.0)):
        seen = Observation(**{"server": SERVER, **look})
        memory = advance(memory, seen)
        due.append(canary_for(memory, seen, every_seconds=30.0, hang_timeout_seconds=LIMIT))
    assert due == [None] * 10 + [""] + [None] * 5


def test_for_how_long_requests_have_waited() -> None:
    memory = Memory()
    since = []
    for look in counts({"waiting": 0}, {"waiting": 2}, {"waiting": 9}, {"waiting": 0}, {"waiting": 1}):
        memory = advance(memory, Observation(**{"server": SERVER, **look}))
        since.append(memory.waiting_since)
    assert since == [None, 3.0, 3.0, None, 12.0]


def two_copies(n: int, *, first: int, second: int = 1) -> dict[str, Any]:
    """A look after 5 n seconds: the first copy makes a step every second, the second one stands still."""
    counted = {
        "0": {"running": float(first), "iterations": 5.0 * n},
        "1": {"running": float(second), "iterations": 7.0},
    }
    return {**READY, "at": 5.0 * n, "load": float(n % 2), "queue": float(first + second), "iterations": 5.0 * n,
            "copies": copies_of(counted)}  # fmt: skip


def test_one_copy_of_two_that_stands_still_is_hung_while_the_other_serves() -> None:
    verdicts = story(*(two_copies(n, first=3) for n in range(5)))
    assert [v.hung for v in verdicts] == [False, False, True, True, True]
    assert verdicts[2].reason == "1 request waits, and copy 1 of the engine has not advanced for 10 s"


def test_copies_that_wait_for_work_or_have_just_got_it_are_well() -> None:
    idle = [two_copies(n, first=3, second=0) for n in range(6)]
    late = [two_copies(n, first=3) for n in (6, 7)]
    assert all(v.ready for v in story(*idle, *late))
    assert story(*idle, *late, two_copies(9, first=3))[-1].hung


def test_what_one_copy_computes_may_be_the_step_of_the_other() -> None:
    """On a host that is its own accelerator; so it is believed for longer, and not for ever."""
    looks = [{**two_copies(n, first=3), "worked_seconds": 5.0 * n} for n in range(13)]
    verdicts = story(*looks)
    assert [v.hung for v in verdicts] == [False] * 10 + [True] * 3
    assert "copy 1 of the engine has computed for 50 s without getting anywhere" in verdicts[10].reason


def test_one_copy_alone_is_the_whole() -> None:
    assert copies_of({"0": {"running": 1.0}}) == {}


# --- several copies, and their canaries


@dataclass
class Copies:
    """A server with two copies, looked at once a second and counted every 3 s. The first one serves `busy` requests,
    the other has nothing to do; what is asked of it is answered at once unless it is `stopped`.
    """

    busy: int = 1
    lost: int = 0  # requests that were given to the stopped copy: the server has them open, no copy tells of them
    stopped: bool = False
    outcome: str = "answered"
    every: float = 60.0
    at: float = 0.0
    tokens: list[float] = field(default_factory=lambda: [0.0, 0.0])
    memory: Memory = field(default_factory=Memory)
    asked: list[tuple[float, str]] = field(default_factory=list)
    _sent: tuple[float, str] | None = None

    def look(self, **more: Any) -> Verdict:
        self.at += 1
        self.tokens[0] += self.busy
        told = more
        if self._sent is not None:
            told = {**told, **self._answer(*self._sent)}
        if self.at % 3 == 0:
            told = {**told, **self._count()}
        seen = Observation(**{**READY, "server": SERVER, "at": self.at, **told})
        self.memory = advance(self.memory, seen)
        verdict = judge(self.memory, seen, hang_timeout_seconds=LIMIT)
        self.memory = heed(self.memory, verdict)
        copy = canary_for(self.memory, seen, every_seconds=self.every, hang_timeout_seconds=LIMIT)
        if copy is not None:
            self._sent = (self.at, copy)
            self.asked.append(self._sent)
        return verdict

    def _answer(self, sent_at: float, copy: str) -> dict[str, Any]:
        number = int(copy or 0)
        if not (self.stopped and number == 1):
            self._sent = None
            self.tokens[number] += self.outcome == "answered"
            return {"canary": self.outcome, "canary_copy": copy}
        if self.at - sent_at < LIMIT / 2:
            return {"canary_since": sent_at, "canary_copy": copy}
        self._sent = None
        return {"canary": "silent", "canary_copy": copy}

    def _count(self) -> dict[str, Any]:
        running = (float(self.busy), 0.0)
        counted = {str(n): {"running": running[n], "generation_tokens": self.tokens[n]} for n in (0, 1)}
        return {"load": float(self.busy + self.lost), "queue": float(self.busy), "marks": (sum(self.tokens),),
                "copies": copies_of(counted)}  # fmt: skip

    def until_hung(self, most: float, **more: Any) -> float | None:
        """Seconds until the verdict; None where there is none within `most`."""
        began = self.at
        while self.at - began < most:
            if self.look(**more).hung:
                return self.at - began
        return None


def test_a_copy_that_stopped_while_it_was_idle_is_found_though_the_other_serves() -> None:
    copies = Copies(busy=0)
    assert copies.until_hung(20) is None
    copies.stopped, copies.busy, copies.lost = True, 3, 3
    seconds = copies.until_hung(60)
    assert seconds is not None
    assert LIMIT <= seconds <= LIMIT + 10
    assert copies.memory.hung.startswith("copy 1 of the engine shows no work, and has not answered a request for one")
    assert {copy for _, copy in copies.asked[-2:]} == {"1"}
    shown = work(copies.memory, copies.at)
    assert shown["copies"]["0"]["still_seconds"] <= 3
    assert shown["copies"]["1"] == {"queue": 0.0, "still_seconds": shown["still_seconds"]}
    assert shown["still_seconds"] >= LIMIT


def test_an_idle_copy_is_asked_now_and_then_and_is_well() -> None:
    copies = Copies()
    assert copies.until_hung(300) is None
    assert {copy for _, copy in copies.asked} == {"1"}
    gaps = [later - sooner for (sooner, _), (later, _) in zip(copies.asked, copies.asked[1:], strict=False)]
    assert gaps
    assert all(LIMIT / 4 <= gap <= LIMIT / 4 + 5 for gap in gaps)


def test_idle_copies_are_asked_in_turn_and_a_stopped_one_is_found() -> None:
    copies = Copies(busy=0)
    assert copies.until_hung(300) is None
    numbers = [copy for _, copy in copies.asked]
    assert numbers.count("0") == numbers.count("1") >= 4
    copies.stopped = True
    seconds = copies.until_hung(300)
    assert seconds is not None
    assert seconds <= 60 + LIMIT + 10


def test_idle_copies_are_left_alone_where_nobody_is_to_be_asked() -> None:
    copies = Copies(busy=0, every=0.0, stopped=True)
    assert copies.until_hung(300) is None
    assert copies.asked == []


@pytest.mark.parametrize("outcome", ["answered", "refused"])
def test_a_copy_of_which_something_comes_back_is_not_hung(outcome: str) -> None:
    assert Copies(outcome=outcome).until_hung(300) is None


def test_a_copy_that_answers_late_is_not_hung() -> None:
    copies = Copies()
    for _ in range(10):
        copies.stopped = True
        assert copies.until_hung(LIMIT - 2) is None
        copies.stopped = False
        assert copies.until_hung(10) is None


@pytest.mark.parametrize("why", [{"silent": True, "healthy": None, "load": None}, {"asleep": True}])
def test_what_a_copy_owes_while_nothing_could_come_is_forgiven(why: dict[str, Any]) -> None:
    copies = Copies(stopped=True)
    owes = []
    for more in ({}, why):
        assert copies.until_hung(LIMIT - 4, **more) is None
        owes.append(copies.memory.copies["1"].owes_since)
    assert [one is None for one in owes] == [False, True]
    copies.stopped = False
    assert copies.until_hung(60) is None


def test_computing_on_the_host_may_be_the_canary_of_a_copy() -> None:
    """For five times the limit, as any step."""
    copies, worked = Copies(stopped=True), 0.0
    began = copies.at
    while not copies.look(worked_seconds=worked).hung and copies.at < 200:
        worked += 1.0
    assert 5 * LIMIT <= copies.at - began <= 5 * LIMIT + 10


# --- front ends


def test_a_front_end_that_stands_still_is_hung_though_others_answer() -> None:
    """Whatever it has open stands still with it, and nothing else tells."""
    looks = [{**READY, "at": float(n), "beats": {8: (n, 1), 9: (min(n, 3), 1)}} for n in range(20)]
    verdicts = story(*looks)
    assert [v.hung for v in verdicts] == [n >= 13 for n in range(20)]
    assert verdicts[-1].reason == "a front end of the server (process 9) has stood still for 10 s"


def test_front_ends_that_beat_or_are_gone_or_tell_nothing_are_well() -> None:
    beats: list[dict[int, tuple[int, int]]] = [
        {8: (n, 1), 9: (1, n)} if n < 29 else {8: (n, 1)} if n < 40 else {} for n in range(60)
    ]
    assert all(v.ready for v in story(*({**READY, "at": float(n), "beats": each} for n, each in enumerate(beats))))
    blinking = [{9: (7, 1)} if n % 9 < 8 else {} for n in range(40)]  # a state folder that is removed now and then
    assert all(v.ready for v in story(*({**READY, "at": float(n), "beats": each} for n, each in enumerate(blinking))))


def tokenizing(share: float, *, queue: int = 0, until: int = 100) -> list[dict[str, Any]]:
    """One request that the server has open; its own process takes this share of a core."""
    return counts(*({"load": 1, "queue": queue, "iterations": 7.0, "served_seconds": 3.0 * n * share}
                    for n in range(until)))  # fmt: skip


def test_a_server_that_makes_tokens_of_a_long_text_is_busy_for_five_times_the_limit() -> None:
    verdicts = story(*tokenizing(0.9), hang=LIMIT)
    hung = [at for at, verdict in zip((3.0 * n for n in range(100)), verdicts, strict=True) if verdict.hung]
    assert 5 * LIMIT <= hung[0] <= 5 * LIMIT + 6


@pytest.mark.parametrize("looks", [tokenizing(0.3), tokenizing(0.9, queue=1)])
def test_what_a_server_computes_is_no_work_of_an_engine_that_has_got_it(looks: list[dict[str, Any]]) -> None:
    verdicts = story(*looks, hang=LIMIT)
    hung = [at for at, verdict in zip((3.0 * n for n in range(100)), verdicts, strict=True) if verdict.hung]
    assert LIMIT <= hung[0] <= LIMIT + 6


def test_a_second_hang_is_told_by_its_own_reason() -> None:
    """Until the watch has told of it, what is known of failures is that of the attempt before."""
    before = ("an older reason", "")
    looks: list[dict[str, Any]] = [
        {**READY, "at": float(n), "load": 1, "queue": 1, "failure": before} for n in range(12)
    ]
    ended: list[dict[str, Any]] = [
        {"server": None, "failure": before},
        {"server": None, "failure": ("it", "so"), "retry_pending": True},
    ]
    reasons = [v.reason for v in story(*looks, *ended)]
    assert "has not advanced" in reasons[-3]
    assert reasons[-2:] == [reasons[-3], "it"]
