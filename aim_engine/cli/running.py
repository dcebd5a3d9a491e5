"""How the commands that look at running endpoints write times and amounts, and read a number of seconds."""

from __future__ import annotations

from typing import Any

NOTHING = "–"


def duration(seconds: float | None) -> str:
    """`45 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return NOTHING
    rest = int(seconds)
    if rest < 60:
        return f"{rest} s"
    if rest < 3600:
        return f"{rest // 60} min {rest % 60} s"
    if rest < 86400:
        return f"{rest // 3600} h {rest % 3600 // 60} min"
    return f"{rest // 86400} d {rest % 86400 // 3600} h"


def amount(value: float | None, unit: str = "", digits: int = 0) -> str:
    """A number that may be unknown."""
    return NOTHING if value is None else f"{value:,.{digits}f}{unit}"


def share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f}%"


def gpus(endpoint: Any) -> str:
    """`4 x MI300X`, `CPU`."""
    if endpoint.gpu_count and endpoint.gpu_type:
        return f"{endpoint.gpu_count} x {endpoint.gpu_type}"
    return str(endpoint.gpu_count) if endpoint.gpu_count else endpoint.gpu_type or NOTHING


def state(endpoint: Any) -> str:
    return endpoint.state if endpoint.exit_code is None else f"{endpoint.state} ({endpoint.exit_code})"


def seconds_typed(text: str) -> int:
    """For a flag that takes whole seconds.

    Raises:
        InputError: it is no such number.
    """
    from aim_engine.errors import InputError

    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise InputError(f"{text[:80]!r} is no number of seconds", hint="use a whole number, for instance 90")
    return int(text)
