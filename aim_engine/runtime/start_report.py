"""What is said of a start: progress.json and what the cache keeps of the last start in; what /status, the reasons and
/metrics show, and this start's own times in the cache for the next, out. Never fails a start.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aim_engine.runtime import state as files
from aim_engine.runtime.aside import Aside
from aim_engine.runtime.contract import Contract
from aim_engine.runtime.health import Verdict
from aim_engine.runtime.log import Log
from aim_engine.runtime.progress import DOWNLOAD
from aim_engine.runtime.start import Start, progress_json, read_start
from aim_engine.runtime.state import State
from aim_engine.runtime.time_left import Left, in_words, time_left

if TYPE_CHECKING:
    from aim_engine.catalog.measurement import Occasion

_SETTLED_SECONDS = 2.0  # the last lines of a start come to the watch by another way than its answer to us
_STARTING = ("starting", "loading", "probing")


class StartReport:
    """Of one server after the other."""

    def __init__(self, state: State, contract: Contract, plan: Mapping[str, Any], log: Log) -> None:
        self._state, self._contract, self._plan, self._log = state, contract, plan, log
        self._start: Start | None = None
        self._past: tuple[tuple[str, ...], Aside[Mapping[str, float]]] | None = None
        self._told: tuple[int, str] = (0, "")
        self._kept = 0
        self._ready: tuple[int, float] = (-1, 0.0)

    def look(self, verdict: Verdict, *, broken: bool = False) -> Verdict:
        """The verdict, with the time that is left in its reason; and what the log and the cache are to have of it.
        `broken` says that the reason tells of an error.
        """
        self._start = read_start(self._state.read(files.PROGRESS)) or (self._start if verdict.ready else None)
        if self._start is None:
            return verdict
        if verdict.ready:
            self._keep(self._start)
        if verdict.phase not in _STARTING:
            return verdict
        left = self._left(self._start)
        self._tell(self._start, left)
        if left.seconds is None or broken:
            return verdict
        return replace(verdict, reason=f"{verdict.reason}; {in_words(left.seconds)} left")

    def shown(self, verdict: Verdict) -> dict[str, Any]:
        """`{phase, words, done, total, unit, seconds, still_seconds, still_limit_seconds, eta_seconds, eta_basis,
        phases: [{phase, seconds}]}` of the newest start; nothing before the first.
        """
        start, now = self._start, time.monotonic()
        if start is None:
            return {}
        ready = self._ready_at(start)
        steps = [
            {"phase": phase, "seconds": round(seconds, 3)} for phase, seconds in start.seconds(ready or now).items()
        ]
        if ready is not None:
            return {"phase": "ready", "seconds": round(ready - start.steps[0][1], 3), "eta_seconds": 0,
                    "eta_basis": "it is ready", "phases": steps}  # fmt: skip
        left = self._left(start) if verdict.phase in _STARTING else Left(seconds=None, basis="it does not go on")
        return {
            **progress_json(start, now, self._contract.stall_timeout_seconds),
            "eta_seconds": None if left.seconds is None else round(left.seconds, 1),
            "eta_basis": left.basis,
            "phases": steps,
        }

    def _left(self, start: Start) -> Left:
        return time_left(start, time.monotonic(), self._of_the_last())

    def _tell(self, start: Start, left: Left) -> None:
        """Each phase once."""
        if not start.pid or self._told == (told := (start.pid, start.phase)):
            return
        self._told = told
        words = f", {in_words(left.seconds)} left ({left.basis})" if left.seconds is not None else ""
        self._log.info(f"start: {start.phase}{words}")

    def _ready_at(self, start: Start) -> float | None:
        ready = self._state.read(files.READY) or {}
        if ready.get("pid") == start.pid:  # kept, for somebody may remove the state folder
            self._ready = start.pid, float(ready["monotonic"])
        return self._ready[1] if self._ready[0] == start.pid else None

    def _of_the_last(self) -> Mapping[str, float]:
        """Seconds of each phase of the last start that did without the same things."""
        without = self._without()
        if self._past is None or self._past[0] != without:
            self._past = without, Aside(partial(self._recalled, without))
            self._past[1].ask()
        return self._past[1].newest or {}

    def _without(self) -> tuple[str, ...]:
        return tuple((self._state.read(files.ATTEMPTS) or {}).get("rungs", self._contract.given_up))

    def _occasion(self) -> Occasion | None:
        from aim_engine.catalog.measurement import read_occasion  # here: a plan may have none

        occasion = self._plan.get("occasion")
        return read_occasion(occasion) if occasion and occasion.get("engine") else None

    def _recalled(self, without: tuple[str, ...]) -> Mapping[str, float]:
        from aim_engine.catalog.past_starts import recall_start

        occasion = self._occasion()
        if occasion is None:
            return {}
        found, notes = recall_start(Path(self._contract.cache_dir), occasion, without)
        for note in notes:
            self._log.warning(note)
        return found.seconds if found else {}

    def _keep(self, start: Start) -> None:
        """Once for each; a download is not kept, for the next start finds its files."""
        ready = self._ready_at(start)
        if ready is None or self._kept == start.pid or time.monotonic() - ready < _SETTLED_SECONDS:
            return
        self._kept = start.pid
        seconds = {phase: round(taken, 3) for phase, taken in start.seconds(ready).items() if phase != DOWNLOAD}
        occasion = self._occasion()
        if occasion is None:
            return
        from aim_engine.catalog.past_starts import PastStart, keep_start

        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        past = PastStart(occasion=occasion, given_up=self._without(), seconds=seconds, date=date)
        try:
            path = keep_start(Path(self._contract.cache_dir), past)
        except OSError as error:
            self._log.info(f"the next start will not know how long it takes: that cannot be kept in the cache "
                           f"({error.strerror})")  # fmt: skip
            return
        self._past = None  # the next one may be in this very container
        self._log.debug(f"this start's times for the next: {path}")
