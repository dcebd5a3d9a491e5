"""A start as it goes: marks, bytes and signs of work, over time, in; its phases, how far each is, and since when
nothing has moved, out.

Pure; times are seconds of one clock. Reads no log and no folder, and ends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from aim_engine.errors import EngineStartTimeoutError
from aim_engine.runtime.fetched import Fetched
from aim_engine.runtime.phases import BY_NAME
from aim_engine.runtime.progress import COMPILE, DOWNLOAD, LOAD, PHASES, PROFILE, RESOLVE, Mark

_GIB = 1024**3
BYTES = "bytes"
# A GPU's engine compiles in its first run, a CPU's after it has made its cache.
_RANKS = {phase: PHASES.index(COMPILE if phase == PROFILE else phase) for phase in PHASES}


@dataclass(frozen=True, kw_only=True)
class Start:
    """`steps` are the phases so far with the moment each began, and one may come twice; `done` of `total` (0: not
    known) `unit` is of the newest. `moved_at` is when something last moved. `first` is `done` as the phase found it.
    `fetches` says that the checkpoint was not whole in the cache at first; None where the cache has not answered.
    """

    pid: int
    steps: tuple[tuple[str, float], ...]
    moved_at: float
    words: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    first: int = 0
    fetches: bool | None = False

    @property
    def phase(self) -> str:
        return self.steps[-1][0]

    @property
    def began(self) -> float:
        """When the phase did."""
        return self.steps[-1][1]

    @property
    def may_fetch(self) -> bool:
        """An engine downloads what it lacks as the first thing of loading."""
        return self.phase == DOWNLOAD or (self.phase == LOAD and not self.total)

    def seconds(self, at: float) -> dict[str, float]:
        """How long each phase has taken, in the order in which they came."""
        ends = [moment for _, moment in self.steps[1:]] + [at]
        found: dict[str, float] = {}
        for (phase, moment), end in zip(self.steps, ends, strict=True):
            found[phase] = found.get(phase, 0.0) + max(0.0, end - moment)
        return found

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "phase": self.phase}


def begin(pid: int, at: float, *, fetches: bool | None = False) -> Start:
    return Start(pid=pid, steps=((RESOLVE, at),), moved_at=at, fetches=fetches)


def read_start(value: Any) -> Start | None:
    """What `as_json` gave, or None."""
    try:
        steps = tuple((str(phase), float(moment)) for phase, moment in value["steps"] if phase in PHASES)
        known = {name: value[name] for name in ("words", "done", "total", "unit", "first", "fetches")}
        found = Start(pid=int(value["pid"]), steps=steps, moved_at=float(value["moved_at"]), **known)
    except (KeyError, TypeError, ValueError):
        return None
    return found if steps else None


def marked(start: Start, mark: Mark, at: float) -> Start:
    """The engine has said how far it is. Of several processes the foremost counts."""
    start = replace(start, moved_at=at)
    behind = _RANKS[mark.phase] < _RANKS[start.phase]
    if behind or (start.phase == DOWNLOAD and mark.phase == LOAD and not mark.total):
        return start  # it says that it loads before it downloads
    if mark.phase != start.phase:
        start = _entered(start, mark.phase, at)
    if mark.total:
        start = replace(start, done=mark.done, total=mark.total, unit=mark.unit)
    return replace(start, words=mark.words)


def fetched(start: Start, seen: Fetched, at: float, *, total: int | None) -> Start:
    """So much of the checkpoint is in the cache now, of `total` bytes."""
    if not start.may_fetch:
        return start
    there = seen.bytes
    if seen.whole:
        return replace(_entered(start, LOAD, at), words="loading the weights") if start.phase == DOWNLOAD else start
    if start.phase != DOWNLOAD:
        if not seen.coming:
            return start
        start = replace(_entered(start, DOWNLOAD, at), done=there, first=there)
    moved_at = at if there != start.done else start.moved_at
    known = total if total and total >= there else 0  # a total that was reckoned too low is none
    size = f"{there / _GIB:,.2f}" + (f" of {known / _GIB:,.2f}" if known else "") + " GiB"
    return replace(
        start, done=there, total=known, unit=BYTES, moved_at=moved_at, words=f"downloading the weights: {size}"
    )


def moved(start: Start, at: float) -> Start:
    """Something happened that is no progress which could be counted."""
    return replace(start, moved_at=at)


def frozen(start: Start, seconds: float) -> Start:
    """Everything stood still with us: a pause of the container is no one's stall."""
    steps = tuple((phase, moment + seconds) for phase, moment in start.steps)
    return replace(start, steps=steps, moved_at=start.moved_at + seconds)


def _entered(start: Start, phase: str, at: float) -> Start:
    return replace(start, steps=(*start.steps, (phase, at)), words="", done=0, total=0, unit="", first=0)


def still_limit(phase: str, asked: float | None) -> float:
    """How long that phase may stand still; 0 for ever. `asked` is AIM_STALL_TIMEOUT, None for each phase's own."""
    return BY_NAME[phase].still_seconds if asked is None else asked


def stalled(start: Start, at: float, asked: float | None) -> EngineStartTimeoutError | None:
    """The reason to end it, once its phase has stood still for too long."""
    limit, still = still_limit(start.phase, asked), at - start.moved_at
    if limit <= 0 or still < limit:
        return None
    about = BY_NAME[start.phase]
    return EngineStartTimeoutError(
        f"the start stands still in phase {start.phase} ({start.words or about.name}): for {still:.0f} s no line of "
        "its log, no byte and no work of its processes",
        hint=f"{about.remedy}; AIM_STALL_TIMEOUT allows more, and 0 any time",
    )


def progress_json(start: Start, at: float, asked: float | None) -> Mapping[str, Any]:
    """How it is now, as /status shows it."""
    limit = still_limit(start.phase, asked)
    return {
        "phase": start.phase,
        "words": start.words,
        "done": start.done if start.unit else None,
        "total": start.total or None,
        "unit": start.unit or None,
        "seconds": round(max(0.0, at - start.began), 3),
        "still_seconds": round(max(0.0, at - start.moved_at), 3),
        "still_limit_seconds": limit or None,
    }
