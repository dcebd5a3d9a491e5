"""The copies of a model that one server has (data parallelism): what each counts, over time, in; which of them has
work and stands still, and for how long, out. Pure.

Their sums, by which `health` judges the whole, move as long as any of them does. A copy is told by the engine's own
counters alone: what the server has open is counted by each of its front ends for itself, and one of them answers. The
counters can be believed: vLLM makes a step for requests that were dropped too, and tells of it where nothing is to be
answered (vllm/v1/core/sched/scheduler.py, has_finished_requests and the end of update_from_output).

A copy that stops while it has nothing to do tells of no work that it is given then. So one that shows none is asked for
a token by itself, and a token that it owes is work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple


class Copy(NamedTuple):
    """What one counts: the requests that it runs or lets wait, and all that moves as it works."""

    queue: float
    marks: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One copy as it was last seen, when anything of that last moved, and since when it owes the answer to a canary."""

    copy: Copy
    moved_at: float
    owes_since: float | None = None

    def still_seconds(self, at: float) -> float:
        """For how long it has stood still although it has work."""
        since = self.moved_at if self.copy.queue > 0 else self.owes_since
        return max(0.0, at - since) if since is not None else 0.0


class Still(NamedTuple):
    """The copy that has stood still for longest although it has work; `seconds` is 0 where none has, and `queue` where
    all its work is a canary.
    """

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
    return {name: _watched(known.get(name), copy, at) for name, copy in seen.items()}


def _watched(before: Watched | None, copy: Copy, at: float) -> Watched:
    return before if before is not None and before.copy == copy else Watched(copy=copy, moved_at=at)


def owing(known: Mapping[str, Watched], name: str, at: float) -> dict[str, Watched]:
    """`name` was sent a canary, and has not answered yet. What it owes already it owes since then."""
    if (one := known.get(name)) is None or one.owes_since is not None:
        return dict(known)
    return {**known, name: replace(one, owes_since=at)}


def excused(known: Mapping[str, Watched]) -> dict[str, Watched]:
    """No answer could come: the server itself was silent, or it sleeps."""
    return {name: replace(one, owes_since=None) for name, one in known.items()}


def settled(known: Mapping[str, Watched], name: str, at: float) -> dict[str, Watched]:
    """Something came back for the canary of `name`."""
    return {**known, name: replace(known[name], moved_at=at, owes_since=None)} if name in known else dict(known)


def to_ask(known: Mapping[str, Watched], at: float, *, every_seconds: float) -> str | None:
    """Of the copies that show no work the one to ask for a token: one that owes an answer, else that of which nothing
    has been seen for longest, and for `every_seconds`.
    """
    idle = {name: one for name, one in known.items() if one.copy.queue <= 0}
    owed = [name for name, one in idle.items() if one.owes_since is not None]
    late = [name for name, one in idle.items() if at - one.moved_at >= every_seconds]
    return min(owed or late, key=lambda name: idle[name].moved_at, default=None)


def stillest(known: Mapping[str, Watched], at: float) -> Still:
    """Of those with work the one that moved last."""
    found = [Still(name, one.copy.queue, one.still_seconds(at)) for name, one in known.items()]
    return max(found, key=lambda one: one.seconds, default=Still("", 0.0, 0.0))
