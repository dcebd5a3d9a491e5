"""The copies of a model that one server has (data parallelism): what each counts, over time, in; which of them has
work and stands still, and for how long, out. Pure.

Their sums, by which `health` judges the whole, move as long as any of them does. A copy is told by the engine's own
counters alone: what the server has open is counted by each of its front ends for itself, and one of them answers. The
counters can be believed: vLLM makes a step for requests that were dropped too, and tells of it where nothing is to be
answered (vllm/v1/core/sched/scheduler.py, has_finished_requests and the end of update_from_output).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Copy(NamedTuple):
    """What one counts: the requests that it runs or lets wait, and all that moves as it works."""

    queue: float
    marks: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One copy as it was last seen, and since when it has work and has not moved."""

    copy: Copy
    moved_at: float


class Still(NamedTuple):
    """The copy that has stood still for longest although it has work; `seconds` is 0 where none has."""

    name: str
    queue: float
    seconds: float


def copies_of(counted: Mapping[str, Mapping[str, float]]) -> dict[str, Copy]:
    """From each copy's counters by our names (`backends.counters`); of one copy alone the whole tells everything."""
    if len(counted) < 2:
        return {}
    return {
        name: Copy(
            queue=counters.get("running", 0.0) + counters.get("waiting", 0.0),
            marks=tuple(number for _, number in sorted(counters.items())),
        )
        for name, counters in counted.items()
    }


def watch_copies(known: Mapping[str, Watched], seen: Mapping[str, Copy], at: float) -> dict[str, Watched]:
    """Fold one count in."""
    return {
        name: Watched(copy=copy, moved_at=known[name].moved_at if _stood(known.get(name), copy) else at)
        for name, copy in seen.items()
    }


def stillest(known: Mapping[str, Watched], at: float) -> Still:
    """Of those with work the one that moved last."""
    found = [Still(name, one.copy.queue, max(0.0, at - one.moved_at)) for name, one in known.items() if one.copy.queue]
    return max(found, key=lambda one: one.seconds, default=Still("", 0.0, 0.0))


def _stood(before: Watched | None, copy: Copy) -> bool:
    return before is not None and before.copy == copy and copy.queue > 0
