"""Stop a server that streams, again and again, as a rolling update does: what became of every request, beside what the
last words say of it. Everything is counted by the client, and on the server's side by the guard.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from scripts import serving
from scripts.bench_numbers import BenchError, Result, result, say
from scripts.bench_serve import Run, first_answer, serving_tiny
from scripts.streams import Stream

STOPS, STREAMS, LATE = 20, 50, 5
TOKENS = 900  # of one answer: it is to be under way when the stop comes, and to end before the deadline
DRAIN_SECONDS = 120
BEGIN_SECONDS, END_SECONDS = 120.0, DRAIN_SECONDS + 60.0


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One stop: what became of the requests, the receipt, the exit code, and seconds from the signal on."""

    became: Counter[str]
    receipt: dict[str, int]
    code: int
    unready_seconds: float
    end_seconds: float

    @property
    def counted(self) -> dict[str, int]:
        """The client's own receipt."""
        return {name: self.became[name] for name in ("finished", "refused", "cut")}


def bench_drain(stops: int | None) -> list[Result]:
    """50 streams are under way at each stop, and 5 requests come too late."""
    count = stops or STOPS
    done: list[Stop] = []
    for number in range(1, count + 1):
        done.append(_stop())
        said = ", ".join(f"{value} {name}" for name, value in done[-1].counted.items())
        say(f"stop {number} of {count}: {said}; exit code {done[-1].code} after {done[-1].end_seconds:.1f} s")
    return rows(done)


def rows(stops: list[Stop]) -> list[Result]:
    """Nothing may be cut, and no receipt may differ from what the client counted."""
    cut = [float(STREAMS - stop.became["finished"]) for stop in stops]
    other = [float(stop.receipt != stop.counted or stop.code != 0) for stop in stops]
    return [
        _sum(f"drain: of {STREAMS * len(stops)} streams, not whole", cut),
        _sum("drain: late requests without a 503", [float(LATE - stop.became["refused"]) for stop in stops]),
        _sum("drain: stops whose receipt differs from the client's count, or whose exit code is not 0", other),
        result("drain: SIGTERM to ready 503", "s", 0.5, [stop.unready_seconds for stop in stops]),
        result("drain: SIGTERM to the end", "s", float(DRAIN_SECONDS), [stop.end_seconds for stop in stops]),
    ]


def _sum(name: str, samples: list[float]) -> Result:
    """Of all stops; none is the goal."""
    return Result(name=name, value=sum(samples), unit="", goal=0.0, runs=len(samples), low=min(samples),
                  high=max(samples))  # fmt: skip


def _stop() -> Stop:
    with serving_tiny("--drain-timeout", str(DRAIN_SECONDS), "--concurrency", str(STREAMS + LATE)) as run:
        first_answer(run)
        until(run, lambda: serving.ask(run.health_port, "/health/ready")[0] == 200, BEGIN_SECONDS, "ready")
        streams = _begin(run, STREAMS)
        until(run, lambda: all(stream.has_begun for stream in streams), BEGIN_SECONDS, "every stream has begun")
        asked = time.monotonic()
        run.server.process.send_signal(signal.SIGTERM)
        until(run, lambda: serving.ask(run.health_port, "/health/ready")[0] == 503, 30, "ready is 503")
        unready = time.monotonic() - asked
        if any(not stream.is_alive() for stream in streams):
            raise BenchError("a stream was over when the stop came: raise TOKENS")
        streams += _begin(run, LATE)
        for stream in streams:
            stream.join(END_SECONDS)
        code = run.server.process.wait(END_SECONDS)
        return Stop(became=Counter(stream.became for stream in streams), code=code, unready_seconds=unready,
                    receipt=run.server.last_words().get("receipt", {}),
                    end_seconds=time.monotonic() - asked)  # fmt: skip


def _begin(run: Run, count: int) -> list[Stream]:
    made = [Stream(("127.0.0.1", run.port), f"{number} is the number of this one", TOKENS)
            for number in range(count)]  # fmt: skip
    for stream in made:
        stream.start()
    return made


def until(run: Run, condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for it, and say how long that took. A server that has ended is not waited for."""
    began = time.monotonic()
    while not condition():
        if run.server.has_ended:
            raise BenchError(f"{what}: the server has ended:\n{run.server.log_tail(15)}")
        if time.monotonic() - began > seconds:
            raise BenchError(f"{what}: not within {seconds:g} s:\n{run.server.log_tail(15)}")
        time.sleep(0.01)
    return time.monotonic() - began
