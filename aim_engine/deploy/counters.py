"""An engine's counters, and what two looks at them say: Prometheus text in, `Counters` and rates out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from aim_engine.backends.counters import finite, read_counters


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What an engine counted by then (`at`, monotonic seconds); None for what it does not say."""

    at: float
    running: float | None = None
    waiting: float | None = None
    kv_cache_usage: float | None = None
    generation_tokens: float | None = None
    prompt_tokens: float | None = None
    requests: float | None = None
    request_seconds: float | None = None
    first_tokens: float | None = None
    first_token_seconds: float | None = None


_FIELDS = tuple(one.name for one in fields(Counters) if one.name != "at")


def from_metrics(text: str, at: float) -> Counters:
    """From an engine's own /metrics."""
    return _of(read_counters(text), at)


def from_status(engine: Any, at: float) -> Counters:
    """From the `engine` part of the sidecar's /status, which may be some seconds old."""
    return _of(engine if isinstance(engine, Mapping) else {}, at)


def _of(said: Mapping[str, Any], at: float) -> Counters:
    return Counters(at=at, **{name: finite(said[name]) for name in _FIELDS if name in said})


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What happened between two looks; None where that cannot be known, or there was nothing to divide by."""

    seconds: float
    tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    requests_per_second: float | None = None
    request_seconds: float | None = None
    first_token_seconds: float | None = None


def rates(before: Counters, after: Counters) -> Rates:
    """From one look to the next. A counter that went down is another engine's: it counts from 0 again."""
    seconds = after.at - before.at
    return Rates(
        seconds=seconds,
        tokens_per_second=_ratio(_grown(before, after, "generation_tokens"), seconds),
        prompt_tokens_per_second=_ratio(_grown(before, after, "prompt_tokens"), seconds),
        requests_per_second=_ratio(_grown(before, after, "requests"), seconds),
        request_seconds=_ratio(_grown(before, after, "request_seconds"), _grown(before, after, "requests")),
        first_token_seconds=_ratio(_grown(before, after, "first_token_seconds"), _grown(before, after, "first_tokens")),
    )


def _grown(before: Counters, after: Counters, name: str) -> float | None:
    first, second = getattr(before, name), getattr(after, name)
    if first is None or second is None:
        return None
    return float(second - first if second >= first else second)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
