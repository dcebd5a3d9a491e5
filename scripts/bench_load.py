"""Load: an address comes in, tokens per second go out. Some streams at once, each with one request after the other."""

from __future__ import annotations

import http.client
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scripts.bench_numbers import BenchError

STREAMS = 4
TOKENS = 512  # of one answer
SAMPLE_SECONDS = 2.0  # short, so that neighbours are near in time
ANSWER_SECONDS = 300.0
PROMPT = "The quick brown fox jumps over the lazy dog while the engine reads the recipe and the plan."


def tokens_per_second(address: tuple[str, int], requests: int) -> float:
    """All streams with so many requests each: all tokens, divided by the time of all."""
    started = time.monotonic()
    with ThreadPoolExecutor(STREAMS) as streams:
        tokens = sum(streams.map(lambda stream: _stream(address, stream, requests), range(STREAMS)))
    return tokens / (time.monotonic() - started)


def requests_for(rate: float) -> int:
    """How many requests of each stream last as long as a sample should, at so many tokens per second."""
    return max(1, math.ceil(SAMPLE_SECONDS * rate / (STREAMS * TOKENS)))


def _stream(address: tuple[str, int], stream: int, requests: int) -> int:
    return sum(_answer(address, f"{stream} {request} {PROMPT}") for request in range(requests))


def _answer(address: tuple[str, int], prompt: str) -> int:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode(errors="replace")  # whole: to read each event would cost the engine's cores
    finally:
        connection.close()
    if response.status != 200:
        raise BenchError(f"the server answered {response.status}: {text[:500]}")
    return tokens_of(text)


def tokens_of(events: str) -> int:
    """The tokens that a streamed answer counts, in its last event."""
    said = [line.removeprefix("data:").strip() for line in events.splitlines() if line.startswith("data:")]
    if said[-1:] != ["[DONE]"] or len(said) < 2:
        raise BenchError(f"the answer was cut short: {events[-500:]}")
    last: dict[str, Any] = json.loads(said[-2])
    tokens = int((last.get("usage") or {}).get("completion_tokens", 0))
    if tokens != TOKENS:
        raise BenchError(f"the answer has {tokens} tokens instead of {TOKENS}")
    return tokens
