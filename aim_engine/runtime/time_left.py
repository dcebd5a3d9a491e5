"""How long a start will still take: the start, the moment and what the last one took in, seconds and where they come
from out. Pure. A number that nothing speaks for is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aim_engine.runtime.progress import DOWNLOAD, PHASES, RESOLVE
from aim_engine.runtime.start import Start

_LEAST_SECONDS = 5.0  # of a download, for a speed
_SLACK_SECONDS, _SLACK = 5.0, 0.1
_COUNTED = ("load", "graphs")  # whose units take about the same time each

LAST_START = "the last start of the same on this machine"
SPEED = "the download's speed so far, without the loading that follows"
BOTH = f"the download's speed so far, and {LAST_START}"
SLOWER = f"this phase takes longer than in {LAST_START}"
UNKNOWN = "no earlier start of the same on this machine"
FETCHES = "something may have to be downloaded first"


@dataclass(frozen=True, kw_only=True)
class Left:
    """`seconds` until it is ready, None where nobody knows; `basis` is what tells them, or why nothing does."""

    seconds: float | None
    basis: str


def time_left(start: Start, at: float, past: Mapping[str, float]) -> Left:
    """`past` are the seconds of each phase of the last start; empty where there was none."""
    if start.phase == DOWNLOAD:
        return _while_downloading(start, at, past)
    if not past:
        return Left(seconds=None, basis=UNKNOWN)
    if start.fetches is not False and DOWNLOAD not in dict(start.steps) and (start.phase == RESOLVE or start.may_fetch):
        return Left(seconds=None, basis=FETCHES)
    phase = _of_phase(start, at, past)
    if phase is None:
        return Left(seconds=None, basis=SLOWER)
    return Left(seconds=phase + _after(start.phase, past), basis=LAST_START)


def _while_downloading(start: Start, at: float, past: Mapping[str, float]) -> Left:
    seconds = at - start.began
    fetched = start.done - start.first
    if not start.total or fetched <= 0 or seconds < _LEAST_SECONDS:
        return Left(seconds=None, basis="the download has no speed yet" if start.total else "its size is not known")
    left = (start.total - start.done) * seconds / fetched
    return Left(seconds=left + _after(DOWNLOAD, past), basis=BOTH) if past else Left(seconds=left, basis=SPEED)


def _of_phase(start: Start, at: float, past: Mapping[str, float]) -> float | None:
    """Of what goes on now: what it took the last time without what it has taken, or by its own pace."""
    taken = start.seconds(at)[start.phase]
    left = past.get(start.phase, 0.0) - taken
    if left >= 0:
        return left
    if start.phase in _COUNTED and start.done and start.total:
        return (at - start.began) * (start.total - start.done) / start.done
    # no two starts take the same; far beyond it nothing is known
    return 0.0 if -left <= _SLACK_SECONDS + _SLACK * past.get(start.phase, 0.0) else None


def _after(phase: str, past: Mapping[str, float]) -> float:
    """What follows. An engine that compiles after it has measured is the same in the end."""
    return sum(past.get(one, 0.0) for one in PHASES[PHASES.index(phase) + 1 :])


def in_words(seconds: float) -> str:
    """`about 40 s`: so coarse that it does not change with every look."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {math.ceil(seconds / 10) * 10} s"
    if seconds < 5400:
        return f"about {math.ceil(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
