"""An engine's counters, and what two looks at them say: Prometheus text in, `Counters` and rates out.

Pure. The names of each engine's metrics are in one table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

# vLLM's names (vllm/v1/metrics/loggers.py); kv_cache_usage_perc was gpu_cache_usage_perc until 0.9, and is a part of 1
_NAMES: Mapping[str, str] = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
    "vllm:gpu_cache_usage_perc": "kv_cache_usage",
    "vllm:generation_tokens_total": "generation_tokens",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:e2e_request_latency_seconds_sum": "request_seconds",
    "vllm:e2e_request_latency_seconds_count": "requests",
    "vllm:time_to_first_token_seconds_sum": "first_token_seconds",
    "vllm:time_to_first_token_seconds_count": "first_tokens",
}
_SHARES = ("kv_cache_usage",)  # a part of 1 for each of the engine's copies: averaged, where all else is summed
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{.*\})? +(?P<value>\S+)(?: +-?\d+)?$", re.MULTILINE | re.ASCII)


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
    found: dict[str, list[float]] = {}
    for sample in _SAMPLE.finditer(text):
        name, value = _NAMES.get(sample["name"]), _number(sample["value"])
        if name is not None and value is not None:
            found.setdefault(name, []).append(value)
    return Counters(at=at, **{
        name: sum(values) / (len(values) if name in _SHARES else 1) for name, values in found.items()
    })  # fmt: skip


def from_status(engine: Any, at: float) -> Counters:
    """From the `engine` part of the sidecar's /status, which may be some seconds old."""
    said = engine if isinstance(engine, Mapping) else {}
    return Counters(at=at, **{name: _number(said[name]) for name in _FIELDS if name in said})


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


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
