"""How long earlier starts on this machine took, phase by phase: the cache's folder and an occasion in, the last start
of it out, and one more in.

`AIM_CACHE_DIR/starts/<checkpoint>/v1/<hash of the occasion and what was given up>.json`: one start of each kind is
kept, the last. What is damaged is told and otherwise as if it were not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aim_engine.catalog.kept_files import Shelf
from aim_engine.catalog.measurement import Occasion, read_occasion

FORMAT = 1
_MOST_SECONDS = 10.0**7


@dataclass(frozen=True, kw_only=True)
class PastStart:
    """`seconds` are those of each phase, in the order in which they came; `given_up` the names of the rungs that it did
    without; `date` is when it became ready, in UTC.
    """

    occasion: Occasion
    given_up: tuple[str, ...]
    seconds: Mapping[str, float]
    date: str

    @property
    def key(self) -> dict[str, Any]:
        return {"occasion": self.occasion.as_json(), "given_up": list(self.given_up)}

    def as_json(self) -> dict[str, Any]:
        """`{format, occasion: {...}, given_up: [name], seconds: {phase: seconds}, date}`."""
        return {"format": FORMAT, **self.key, "seconds": dict(self.seconds), "date": self.date}


def read_past_start(value: Any) -> PastStart:
    """What `PastStart.as_json` gave.

    Raises:
        ValueError: it is none, or of another format.
    """
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    given_up, date = value.get("given_up"), value.get("date")
    if not isinstance(given_up, list) or not all(isinstance(name, str) for name in given_up):
        raise ValueError("given_up is not a list of names")
    if not isinstance(date, str) or not date.isprintable():
        raise ValueError("date is no text")
    return PastStart(
        occasion=read_occasion(value.get("occasion")),
        given_up=tuple(given_up),
        seconds=_seconds(value.get("seconds")),
        date=date,
    )


def _seconds(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("it holds no seconds")
    for phase, seconds in value.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _MOST_SECONDS:
            raise ValueError(f"{phase!r} has no number of seconds")
    return {phase: float(seconds) for phase, seconds in value.items()}


_SHELF = Shelf(name="starts", format=FORMAT, read=read_past_start)


def recall_start(
    cache_dir: Path, occasion: Occasion, given_up: Sequence[str]
) -> tuple[PastStart | None, tuple[str, ...]]:
    """The last start of that occasion without the same things, and a sentence for every file that cannot be read."""
    found, unread = _SHELF.recall(cache_dir, [occasion.checkpoint])
    same = [one for one in found if one.occasion == occasion and one.given_up == tuple(given_up)]
    notes = tuple(f"{path}, which tells how long a start took, cannot be read ({why}); the next start replaces it"
                  for path, why in unread)  # fmt: skip
    return max(same, key=lambda one: one.date, default=None), notes


def keep_start(cache_dir: Path, start: PastStart) -> Path:
    """Write it down, in place of the last one of the same; where.

    Raises:
        OSError: the cache cannot be written to, or its disk is full.
    """
    return _SHELF.keep(cache_dir, start.occasion.checkpoint, start.key, start)
