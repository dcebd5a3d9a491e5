"""What an engine took of a device on this machine, as frozen values: an `Occasion` (what ran, of what, where and how)
and the bytes that were measured on it. In: nothing; out: values and their JSON. Knows no file, no plan and no engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

FORMAT = 1
JOINT = " + "  # between the names of ledger lines that could only be measured together
_MOST_BYTES = 1 << 50


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """When a figure counts: only for the same of all of these. `engine` is what ran ("vllm 0.18.1+rocm700"; "" where
    that is not known), `checkpoint` a hub id or a folder, `revision` its commit, branch or tag where that is fixed,
    `devices` how many of which kind it ran on, and `terms` all of its arguments that change what an engine needs.
    """

    engine: str
    checkpoint: str
    revision: str
    devices: str
    terms: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"engine": self.engine, "checkpoint": self.checkpoint, "revision": self.revision,
                "devices": self.devices, "terms": list(self.terms)}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """`lines` are bytes of one device by the ledger's names, joined by `JOINT` where they are known together only;
    `date` is when, in UTC ("2026-10-10T12:00:00Z"). `given_up` names the rungs of the ladder without which the start
    failed; then there are no lines, for what ran was something else.
    """

    occasion: Occasion
    lines: Mapping[str, int]
    date: str
    given_up: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """`{format, occasion: {...}, lines: {name: bytes}, date, given_up: [name]}`."""
        return {"format": FORMAT, "occasion": self.occasion.as_json(), "lines": dict(self.lines), "date": self.date,
                "given_up": list(self.given_up)}  # fmt: skip


def recalled(measurements: Iterable[Measurement], occasion: Occasion) -> Measurement | None:
    """The newest for that occasion. Where the engine is not known, that of whichever engine ran last."""
    same = (one for one in measurements if _of_engine(one.occasion, occasion.engine) == occasion)
    return max(same, key=lambda one: one.date, default=None)


def _of_engine(occasion: Occasion, engine: str) -> Occasion:
    return occasion if engine else replace(occasion, engine="")


def read_occasion(value: Any) -> Occasion:
    """What `Occasion.as_json` gave.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, Mapping):
        raise ValueError("the occasion is not an object")
    return Occasion(
        engine=_text(value, "engine"),
        checkpoint=_text(value, "checkpoint"),
        revision=_text(value, "revision"),
        devices=_text(value, "devices"),
        terms=_texts(value.get("terms")),
    )


def read_measurement(value: Any) -> Measurement:
    """What `Measurement.as_json` gave.

    Raises:
        ValueError: it is none, or of another format.
    """
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    given_up = _texts(value.get("given_up", []))
    return Measurement(
        occasion=read_occasion(value.get("occasion")),
        lines={} if given_up else _lines(value.get("lines")),
        date=_text(value, "date"),
        given_up=given_up,
    )


def _lines(value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("it holds no lines")
    for name, size in value.items():
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_BYTES:
            raise ValueError(f"{name!r} is no number of bytes")
        if not name.isprintable():
            raise ValueError("a line's name holds control characters")
    return dict(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("the terms are not a list of texts")
    return tuple(value)


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not found.isprintable():
        raise ValueError(f"{key} is no text")
    return found
