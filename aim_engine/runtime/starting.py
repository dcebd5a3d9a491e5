"""How a start goes: the server's lines, the cache's folder and the signs of work in; progress.json and figures.json,
which the sidecar reads, and the reason to end a start that stands still, out.

Only while it starts: what a request makes an engine write later is no progress and no figure of its own. Ends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from aim_engine.backends.figures import with_line
from aim_engine.errors import EngineStartTimeoutError
from aim_engine.runtime import start as starts
from aim_engine.runtime import state as files
from aim_engine.runtime.aside import Aside
from aim_engine.runtime.contract import Contract
from aim_engine.runtime.fetched import Fetched, fetched, hub_folder, whole_bytes
from aim_engine.runtime.processes import Identity
from aim_engine.runtime.progress import WARM, is_idle, mark_of
from aim_engine.runtime.serve import server_environment
from aim_engine.runtime.start import Start
from aim_engine.runtime.state import State
from aim_engine.runtime.work import Work, is_work, work_of

_LOOK_SECONDS = 1.0
_WORK_SECONDS = 10.0  # what a process does in passing is little over so long


class Starting:
    """Of one server after the other."""

    def __init__(self, state: State, contract: Contract, environment: Mapping[str, str]) -> None:
        self._state = state
        self._limit = contract.stall_timeout_seconds
        self._plan: Mapping[str, Any] = state.read(files.PLAN) or {}
        self._checkpoint = Aside(_looker(self._plan, contract, environment))
        self._figures: dict[str, int] = state.read(files.FIGURES) or {}
        self._start: Start | None = starts.read_start(state.read(files.PROGRESS))
        self._written = self._start
        self._looked_at = 0.0
        self._over = False
        self._work: tuple[float, str, Mapping[Identity, Work]] | None = None
        if self._start is not None:  # a watch that was started again does not know what moved meanwhile
            self._start = starts.moved(self._start, time.monotonic())

    def begin(self, pid: int) -> None:
        """A server runs; nothing changes when it is known already."""
        if self._start is not None and not self._start.pid:  # its first lines came before it was seen
            self._start = replace(self._start, pid=pid)
        elif self._start is None or self._start.pid != pid:
            self._begin(pid)
        self._write()

    def _begin(self, pid: int) -> Start:
        seen = self._checkpoint.ask()
        self._start = starts.begin(pid, time.monotonic(), fetches=None if seen is None else not seen.whole)
        self._work = None
        return self._start

    def hear(self, line: str) -> None:
        """A line of the server's log."""
        if self._over or self._state.exists(files.READY):
            self._over = True  # from now on, even where somebody removes the state folder
            return
        start, now = self._start or self._begin(0), time.monotonic()
        if mark := mark_of(line):
            self._start = starts.marked(start, mark, now)
            self._write()
        elif not is_idle(line):
            self._start = starts.moved(start, now)
        told = with_line(self._figures, line)
        if told != self._figures:
            self._figures = dict(told)
            self._state.write(files.FIGURES, self._figures)

    def look(self) -> EngineStartTimeoutError | None:
        """What folders and processes say; why the start is to be ended, where it stands still for too long."""
        now = time.monotonic()
        if self._start is None or now - self._looked_at < _LOOK_SECONDS:
            return None
        self._looked_at = now
        if self._start.may_fetch and self._start.fetches is not False and (seen := self._checkpoint.ask()):
            self._start = starts.fetched(self._start, seen, now, total=whole_bytes(self._plan)[0])
        self._look_at_work(self._start, now)
        self._write()
        return starts.stalled(self._start, now, self._limit)

    def _look_at_work(self, start: Start, now: float) -> None:
        """Over windows that are shorter than the limit."""
        limit = starts.still_limit(start.phase, self._limit)
        window = min(_WORK_SECONDS, limit / 4) if limit else _WORK_SECONDS
        if self._work is not None and self._work[1] == start.phase and now - self._work[0] < window:
            return
        # once it takes connections, the server answers those who ask how it is
        found = work_of(start.pid, without_leader=start.phase == WARM)
        if (
            self._work is not None
            and self._work[1] == start.phase
            and is_work(self._work[2], found, now - self._work[0])
        ):
            self._start = starts.moved(start, now)
        self._work = now, start.phase, found

    def frozen(self, seconds: float) -> None:
        """The whole container stood still for so long."""
        if seconds > 0 and self._start is not None:
            self._start = starts.frozen(self._start, seconds)
            self._work = None

    def forget(self) -> None:
        """Another start follows."""
        self._figures, self._start, self._written, self._work, self._over = {}, None, None, None, False
        self._state.remove(files.PROGRESS, files.FIGURES)

    def _write(self) -> None:
        if self._start is not None and self._start != self._written:
            self._state.write(files.PROGRESS, self._start.as_json())
            self._written = self._start


def _looker(plan: Mapping[str, Any], contract: Contract, environment: Mapping[str, str]) -> Callable[[], Fetched]:
    """For the checkpoint in the cache that the engine will look into."""
    hub = hub_folder(server_environment(contract, dict(environment)), contract.cache_dir)
    return partial(fetched, contract.model, hub, plan.get("revision") or "main")
