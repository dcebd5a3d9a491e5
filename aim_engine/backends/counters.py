"""What an engine counts: the Prometheus text of its /metrics in, numbers by our own names out, over all its copies.

Pure, and light: the health sidecar loads it. The names of each engine's metrics are in one table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

# vLLM's names (vllm/v1/metrics/loggers.py); kv_cache_usage_perc was gpu_cache_usage_perc until 0.9, and is a part of 1
NAMES: Mapping[str, str] = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
    "vllm:gpu_cache_usage_perc": "kv_cache_usage",
    "vllm:generation_tokens_total": "generation_tokens",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:iteration_tokens_total_count": "iterations",
    "vllm:e2e_request_latency_seconds_sum": "request_seconds",
    "vllm:e2e_request_latency_seconds_count": "requests",
    "vllm:time_to_first_token_seconds_sum": "first_token_seconds",
    "vllm:time_to_first_token_seconds_count": "first_tokens",
    # sglang's (srt/observability/metrics_collector.py). Its gauges are set every 40 steps, so they lag behind, and it
    # counts no steps: what moves with every step or every few are tokens, by several names in several versions.
    "sglang:num_running_reqs": "running",
    "sglang:num_queue_reqs": "waiting",
    "sglang:token_usage": "kv_cache_usage",
    "sglang:generation_tokens_total": "generation_tokens",
    "sglang:prompt_tokens_total": "prompt_tokens",
    "sglang:realtime_tokens_total": "iterations",
    "sglang:inter_token_latency_seconds_count": "iterations",
    "sglang:e2e_request_latency_seconds_sum": "request_seconds",
    "sglang:e2e_request_latency_seconds_count": "requests",
    "sglang:time_to_first_token_seconds_sum": "first_token_seconds",
    "sglang:time_to_first_token_seconds_count": "first_tokens",
}
_SHARES = ("kv_cache_usage",)  # a part of 1 for each of the engine's copies: averaged, where all else is summed
_SAMPLE = re.compile(
    r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? +(?P<value>\S+)(?: +-?\d+)?$", re.MULTILINE | re.ASCII
)
# the number of a copy: vLLM's (vllm/v1/metrics/loggers.py, labelnames), one for each of --data-parallel-size
COPY_HEADER = "X-data-parallel-rank"  # of a request for the copy of that number (vllm/entrypoints/generate/base)
_COPY = re.compile(r'(?:^|,)engine="(?P<copy>\d+)"')
# told to sleep by its user (vllm/v1/metrics/loggers.py, record_sleep_state): 0 while it is not awake
_AWAKE = re.compile(
    r'^vllm:engine_sleep_state\{[^}]*sleep_state="awake"[^}]*\} +(?P<value>\S+)', re.MULTILINE | re.ASCII
)


def read_counters(text: str) -> dict[str, float]:
    """Every counter we know that is in the text; what is no finite number is left out."""
    found: dict[str, list[float]] = {}
    for name, value, _ in _samples(text):
        found.setdefault(name, []).append(value)
    return {name: sum(values) / (len(values) if name in _SHARES else 1) for name, values in found.items()}


def read_copies(text: str) -> dict[str, dict[str, float]]:
    """The same for each copy by its number, as far as the text tells them apart."""
    found: dict[str, dict[str, float]] = {}
    for name, value, labels in _samples(text):
        if copy := _COPY.search(labels):
            counters = found.setdefault(copy["copy"], {})
            counters[name] = counters.get(name, 0.0) + value
    return found


def _samples(text: str) -> Iterator[tuple[str, float, str]]:
    """Our name, the number and the labels of each sample that we know."""
    for sample in _SAMPLE.finditer(text):
        name = NAMES.get(sample["name"])
        value = finite(sample["value"]) if name else None
        if name is not None and value is not None:
            yield name, value, sample["labels"] or ""


def is_asleep(text: str) -> bool:
    """Whether the text says that an engine sleeps; what it is asked then waits until it is woken."""
    return any(finite(sample["value"]) == 0 for sample in _AWAKE.finditer(text))


def finite(value: object) -> float | None:
    """The number that a text or a JSON value is; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
