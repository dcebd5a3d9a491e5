"""The copies of a model that one server has (data parallelism): what each counts, over time, in; which of them has
work and stands still, and for how long, out. Pure.

Their sums, by which `health` judges the whole, move as long as any of them does. A copy is told by the engine's own
counters alone, and they may be late: they say "running" of a request that was dropped until the copy's next step. So
of the work that the server has open there must be more than the other copies have.
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


def watch_copies(
    known: Mapping[str, Watched], seen: Mapping[str, Copy], *, load: float, at: float
) -> dict[str, Watched]:
    """Fold one count in. `load` are the requests that the server has open."""
    still = {name for name, copy in seen.items() if _stood(known.get(name), copy)}
    elsewhere = sum(copy.queue for name, copy in seen.items() if name not in still)
    works = load > elsewhere
    return {
        name: Watched(copy=copy, moved_at=known[name].moved_at if works and name in still else at)
        for name, copy in seen.items()
    }


def stillest(known: Mapping[str, Watched], at: float) -> Still:
    """Of those with work the one that moved last."""
    found = [Still(name, one.copy.queue, max(0.0, at - one.moved_at)) for name, one in known.items() if one.copy.queue]
    return max(found, key=lambda one: one.seconds, default=Still("", 0.0, 0.0))


def _stood(before: Watched | None, copy: Copy) -> bool:
    return before is not None and before.copy == copy and copy.queue > 0
