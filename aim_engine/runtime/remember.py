"""What becomes of a look at an engine's memory: the plan and what was `Seen` in; what /status shows, a warning in the
log where it is not as predicted, and a file in the cache for the next plan out. Never fails a start.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aim_engine.runtime import state as files
from aim_engine.runtime.actual import Seen, compared, measured_lines
from aim_engine.runtime.log import Log
from aim_engine.runtime.state import State


class MemoryReport:
    """Of one server after the other. `shown` is what /status says of the newest; `taken` knows which that is."""

    def __init__(self, state: State, plan: Mapping[str, Any], log: Log) -> None:
        self._state, self._plan, self._log = state, plan, log
        self._memory: Mapping[str, Any] = plan.get("memory") or {}
        self._server: tuple[int, int] | None = None
        self._compared = compared(self._memory, None)

    def shown(self, server: tuple[int, int] | None) -> Mapping[str, Any]:
        """Before a server is ready what was predicted; one that has ended keeps its figures until another is ready."""
        return self._compared if server in (None, self._server) else compared(self._memory, None)

    def take(self, server: tuple[int, int], seen: Seen) -> None:
        """The server is ready, and this was seen of it. Only the first time for each. One that runs otherwise than
        planned, without what was given up after a failure, is shown and not judged; what it does without is remembered.
        """
        if server == self._server:
            return
        self._server = server
        known = self._state.read(files.MEMORY) or {}
        if known.get("server") == list(server):  # this sidecar is not the first: what is seen now has grown
            self._compared = known["compared"]
            return
        attempts = (self._state.read(files.ATTEMPTS) or {}).get("attempts")
        without = tuple(attempts[-1].get("without", ())) if attempts else ()
        as_planned = not without
        found = compared(self._memory, seen)
        self._compared = found if as_planned else {**found, "warnings": []}
        for warning in self._compared["warnings"]:
            self._log.warning(warning)
        self._remember(measured_lines(self._memory, seen) if as_planned else {}, without)
        self._state.write(files.MEMORY, {"server": server, "compared": self._compared})

    def _remember(self, lines: Mapping[str, int], given_up: tuple[str, ...]) -> None:
        # here: once in a run, and not while an engine starts
        from aim_engine.catalog.measurement import Measurement, read_occasion
        from aim_engine.catalog.remembered import keep

        occasion = self._plan.get("occasion")
        if not (lines or given_up) or not occasion or not occasion.get("engine"):
            return
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        found = Measurement(occasion=read_occasion(occasion), lines=lines, date=date, given_up=given_up)
        try:
            path = keep(Path(self._plan["runtime"]["cache_dir"]), found)
        except OSError as error:
            self._log.info(f"the next plan will assume again what was measured now: it cannot be kept in the cache "
                           f"({error.strerror})")  # fmt: skip
            return
        self._log.debug(f"measured for the next plan: {path}")
