"""The last counts of an engine's work, kept in the state folder for whoever asks what it did before it ended.

In: observations and what they were taken for. Out: one small JSON file. Judges nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aim_engine.runtime import state as files
from aim_engine.runtime.copies import stillest
from aim_engine.runtime.health import Memory, Observation, Verdict, still_seconds
from aim_engine.runtime.state import State

_MOST = 60  # five minutes where nothing happens, and one of an engine that stands still


class Observations:
    """Those of one sidecar; a new one begins anew."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kept: deque[Mapping[str, Any]] = deque(maxlen=_MOST)

    def take(self, seen: Observation, memory: Memory, verdict: Verdict, counters: Mapping[str, float]) -> None:
        """Note this one, if it counted anything, or nothing was heard."""
        if seen.server is None or (seen.load is None and not seen.silent and not verdict.hung):
            return
        self._kept.append(
            {
                "at": round(time.time(), 3),
                "pid": seen.server[0],
                "phase": verdict.phase,
                "silent": seen.silent,
                **work(memory, seen.at),
                "cpu_seconds": seen.worked_seconds,
                "canaries_unanswered": memory.canary_failures,
                "counters": dict(counters),
            }
        )
        with suppress(OSError):  # a full disk must not end the looking
            self._state.write(files.OBSERVATIONS, list(self._kept))


def work(memory: Memory, at: float) -> dict[str, Any]:
    """What there is to do, for how long any of it has waited, and for how long nothing has moved, of one copy where
    there are several.
    """
    waiting = at - memory.waiting_since if memory.waiting_since is not None else 0.0
    found = {
        "open": memory.load,
        "queue": memory.queue,
        "waiting_seconds": round(max(0.0, waiting), 1),
        "still_seconds": round(max(still_seconds(memory, at), stillest(memory.copies, at).seconds), 1),
    }
    if not memory.copies:
        return found
    copies = {
        name: {"queue": one.copy.queue, "still_seconds": round(one.still_seconds(at), 1)}
        for name, one in memory.copies.items()
    }
    return {**found, "copies": copies}
