"""When a canary is due, whom it is for, and how long its answer may take. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aim_engine.runtime.copies import to_ask

if TYPE_CHECKING:
    from aim_engine.runtime.health import Memory, Observation

_CANARY_SHARE = 0.5  # of the time limit: two that fail take the whole
_DOUBT_SHARE = 0.25


def canary_seconds(hang_timeout_seconds: float) -> float:
    """How long an answer to a canary may take."""
    return _CANARY_SHARE * hang_timeout_seconds


def canary_for(memory: Memory, seen: Observation, *, every_seconds: float, hang_timeout_seconds: float) -> str | None:
    """Who is to be asked for a token now: the number of a copy, "" for the engine as a whole, None for nobody. Asked
    is who has long had nothing to do, or is in doubt: also a copy that shows no work while others do. `every_seconds`
    of 0 leaves the doubt. The memory is that after this look.
    """
    if memory.ready_since is None or not seen.healthy or seen.asleep or seen.stop_asked:
        return None
    if memory.canary_from is not None:
        return None
    doubt_seconds = _DOUBT_SHARE * hang_timeout_seconds
    if memory.copies:
        idle_seconds = every_seconds if every_seconds > 0 else math.inf
        return to_ask(memory.copies, seen.at, every_seconds=doubt_seconds if memory.work > 0 else idle_seconds)
    if memory.work > 0:
        doubtful = memory.load <= 0 or memory.queue <= 0
        return "" if doubtful and seen.at - max(memory.moved_at, memory.canary_at) >= doubt_seconds else None
    if every_seconds <= 0 or memory.idle_since is None:
        return None
    due = memory.canary_failures > 0 or seen.at - max(memory.idle_since, memory.canary_at) >= every_seconds
    return "" if due else None
