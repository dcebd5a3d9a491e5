"""Prometheus' text format: names, values and what the engine counts in; lines of the sidecar's /metrics out.

The engine's counters are said again here by our own names, so that one name does for every engine, and so that what
scales and watches needs no API key: the engine's own /metrics asks for it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

# Counter (backends/counters.py) -> our metric, its kind and meaning. Absent until the engine was ready and was asked.
ENGINE_METRICS: Mapping[str, tuple[str, str, str]] = {
    "running": ("aim_engine_requests_running", "gauge", "Requests that the engine works on"),
    "waiting": ("aim_engine_requests_waiting", "gauge", "Requests that wait for the engine"),
    "kv_cache_usage": ("aim_engine_kv_cache_usage_ratio", "gauge", "The part of the KV cache in use, of 1"),
    "prompt_tokens": ("aim_engine_prompt_tokens_total", "counter", "Tokens of prompts that were read"),
    "generation_tokens": ("aim_engine_generation_tokens_total", "counter", "Tokens that were written"),
    "requests": ("aim_engine_requests_total", "counter", "Requests that were answered"),
    "request_seconds": ("aim_engine_request_seconds_total", "counter", "Seconds that those requests took"),
    "first_tokens": ("aim_engine_first_tokens_total", "counter", "Requests whose first token was written"),
    "first_token_seconds": ("aim_engine_first_token_seconds_total", "counter", "Seconds until those first tokens"),
}


def metric(name: str, kind: str, meaning: str, value: float) -> tuple[str, str, str]:
    """One metric without labels."""
    return f"# HELP {name} {meaning}.", f"# TYPE {name} {kind}", f"{name} {value}"


def engine_lines(counters: Mapping[str, float]) -> Iterator[str]:
    """What the engine counts, as far as it is known."""
    for counter, (name, kind, meaning) in ENGINE_METRICS.items():
        if counter in counters:
            yield from metric(name, kind, meaning, counters[counter])


def escape_label(value: str) -> str:
    """A label's value as the text format wants it (prometheus.io/docs/instrumenting/exposition_formats)."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
