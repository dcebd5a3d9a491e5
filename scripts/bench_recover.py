"""Kill the engine of a server, and see how soon it serves again, beside how long the same server took to start; then
freeze it, and see how soon that is known. All of it on one server after the other, so that what is compared lies
side by side.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from aim_engine.runtime.processes import descendants
from scripts import serving
from scripts.bench_drain import until
from scripts.bench_numbers import BenchError, Result, ratio, result, say
from scripts.bench_serve import Run, first_answer, serving_tiny
from scripts.streams import Stream

ROUNDS = 5
HANG_SECONDS = 10
SERVED_SECONDS = 5.0  # before each kill: longer than the pause before a second retry
READY_SECONDS = 300.0
STREAM_TOKENS = 1900
CORE = "VLLM::EngineCor"  # as the kernel cuts it


@dataclass(frozen=True, kw_only=True)
class Round:
    """Seconds: the start, then of a killed core and a killed API server until it was seen and until it served, then
    of a frozen core until the verdict.
    """

    start: float
    core_seen: float
    core_ready: float
    server_seen: float
    server_ready: float
    verdict: float


def bench_recover(rounds: int | None) -> list[Result]:
    """Every round starts a server anew; its two retries are used up, and its end is the verdict on a frozen core."""
    count = rounds or ROUNDS
    with serving_tiny() as run:  # warms the caches
        first_answer(run)
    done = []
    for number in range(1, count + 1):
        done.append(_round())
        say(f"round {number} of {count}: {_told(done[-1])}")
    return rows(done)


def rows(rounds: list[Round]) -> list[Result]:
    starts = [one.start for one in rounds]
    core, server = [one.core_ready for one in rounds], [one.server_ready for one in rounds]
    return [
        result("recover: warm start to ready", "s", None, starts),
        result("recover: core killed to ready again", "s", None, core),
        ratio("recover: core killed to ready again / warm start", 1.0, core, starts),
        result("recover: server killed to ready again", "s", None, server),
        ratio("recover: server killed to ready again / warm start", 1.0, server, starts),
        result("recover: core killed to ready 503", "ms", 1000.0, [1000 * one.core_seen for one in rounds]),
        result("recover: server killed to ready 503", "ms", 1000.0, [1000 * one.server_seen for one in rounds]),
        result(f"recover: core stopped at work to the verdict (AIM_HANG_TIMEOUT={HANG_SECONDS})", "s",
               HANG_SECONDS + 10.0, [one.verdict for one in rounds]),
    ]  # fmt: skip


def _told(one: Round) -> str:
    return (
        f"started in {one.start:.1f} s; ready again {one.core_ready:.1f} s after its core was killed, "
        f"{one.server_ready:.1f} s after its server was; a frozen core known after {one.verdict:.1f} s"
    )


def _round() -> Round:
    with serving_tiny("--hang-timeout", str(HANG_SECONDS)) as run:
        until(run, lambda: _ready(run), READY_SECONDS, "ready")
        start = time.monotonic() - run.started
        core = _killed(run, core_of(run))
        server = _killed(run, _server_of(run))
        return Round(start=start, core_seen=core[0], core_ready=core[1], server_seen=server[0], server_ready=server[1],
                     verdict=_frozen(run))  # fmt: skip


def _killed(run: Run, pid: int) -> tuple[float, float]:
    """Seconds until it is said to be unready, and until it is ready again.

    Raises:
        BenchError: the server that is ready again is the one that was broken.

    """
    time.sleep(SERVED_SECONDS)
    broken, began = _server_of(run), time.monotonic()
    os.kill(pid, signal.SIGKILL)
    until(run, lambda: not _ready(run), 60, "the kill is seen")
    seen = time.monotonic() - began
    until(run, lambda: _ready(run), READY_SECONDS, "ready again")
    ready = time.monotonic() - began
    if _server_of(run) == broken:
        raise BenchError(f"ready was said again of the broken server, {ready:.3f} s after the kill")
    return seen, ready


def _frozen(run: Run) -> float:
    """Seconds until live says so, from the stop of a core that is at work."""
    stream = Stream(("127.0.0.1", run.port), "Hello", STREAM_TOKENS)
    stream.start()
    until(run, lambda: len(stream.chunks) > 20, 60, "the stream has begun")
    os.kill(core_of(run), signal.SIGSTOP)
    began = time.monotonic()
    if not stream.is_alive():
        raise BenchError("the stream was over when the core was stopped: raise STREAM_TOKENS")
    while not (run.server.has_ended or serving.ask(run.health_port, "/health/live")[0] == 503):
        if time.monotonic() - began > 10 * HANG_SECONDS:
            raise BenchError(f"no verdict on a frozen core:\n{run.server.log_tail(15)}")
        time.sleep(0.02)
    return time.monotonic() - began


def _ready(run: Run) -> bool:
    return serving.ask(run.health_port, "/health/ready")[0] == 200


def _server_of(run: Run) -> int:
    return int((run.state / "server.pid").read_text(encoding="ascii").split()[0])


def core_of(run: Run) -> int:
    """The engine's own process, a child of the API server."""
    for process in descendants(_server_of(run)):
        if Path(f"/proc/{process.identity.pid}/comm").read_text(encoding="utf-8").strip() == CORE:
            return process.identity.pid
    raise BenchError("the server has no engine core")
