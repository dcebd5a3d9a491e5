"""How far a start has come: a line of the engine's log in, a `Mark` out.

Pure; the texts are vLLM's (vllm/v1/engine/core.py, v1/worker/gpu_model_runner.py, v1/worker/cpu_model_runner.py,
v1/worker/gpu/cudagraph_utils.py, model_executor/model_loader/weight_utils.py, compilation/backends.py and monitor.py)
and sglang's (srt/model_executor/model_runner.py, its kv_pool_runtime.py and graph runners). An engine with other texts
just shows no phases but the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# As an engine comes to them. One may have no lines of its own, and one may be missing altogether.
RESOLVE, DOWNLOAD, LOAD, COMPILE, PROFILE, GRAPHS, WARM = PHASES = (
    "resolve", "download", "load", "compile", "profile", "graphs", "warm",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a line says of the start: its phase, in words, and how many of how many where it counts."""

    phase: str
    words: str
    done: int = 0
    total: int = 0
    unit: str = ""


# tqdm's bars: vLLM's own form of it for what is loaded, the library's for graphs
_LOADED = r"[^:]*:\s+\d+% Completed \| (?P<done>\d+)/(?P<total>\d+)\b"
_BAR = r":\s+\d+%\|.*\| (?P<done>\d+)/(?P<total>\d+) \["

_MARKS: tuple[tuple[re.Pattern[str], str, str, str], ...] = tuple(
    (re.compile(pattern), phase, words, unit)
    for pattern, phase, words, unit in (
        (r"Initializing a V1 LLM engine", RESOLVE, "the engine process is up", ""),
        (r"Starting to load model", LOAD, "loading the weights", ""),
        (r"[Ll]oading .*shards" + _LOADED, LOAD, "loading the weights: {done} of {total} shards", "shards"),
        (r"[Ll]oading " + _LOADED, LOAD, "loading the weights: {done} of {total} tensors", "tensors"),
        (r"[Ll]oading .*shards[^:]*:\s+(?P<share>\d+%)", LOAD, "loading the weights: {share}", ""),
        (r"Loading weights took (?P<share>[\d.]+) seconds", LOAD, "weights loaded in {share} s", ""),
        (
            r"Starting torch\.compile|Dynamo bytecode transform time|Warming up model for the compilation",
            COMPILE,
            "compiling the model",
            "",
        ),
        (r"Using cache directory: .* for vLLM's torch\.compile", COMPILE, "compiling the model", ""),
        (
            r"torch\.compile (?:took|takes) (?P<share>[\d.]+) s in total",
            PROFILE,
            "compiled in {share} s; the first run follows",
            "",
        ),
        (r"Initial profiling/warmup run took (?P<share>[\d.]+) s", PROFILE, "the first run took {share} s", ""),
        (r"Profiling CUDA graph memory", PROFILE, "measuring what graphs need", ""),
        (r"Available KV cache memory: (?P<share>[\d.]+ GiB)", PROFILE, "{share} of memory for the KV cache", ""),
        (r"KV cache size: (?P<share>[\d,]+) tokens", PROFILE, "KV cache of {share} tokens", ""),
        (r"Capturing CUDA graphs.*" + _BAR, GRAPHS, "capturing graphs: {done} of {total}", "graphs"),
        (r"Capturing CUDA graphs", GRAPHS, "capturing graphs", ""),
        (r"Graph capturing finished in (?P<share>\d+) secs", GRAPHS, "graphs captured in {share} s", ""),
        (r"init engine .* took (?P<share>[\d.]+) s", WARM, "engine initialised in {share} s", ""),
        (r"Starting vLLM (?:API )?server|Application startup complete", WARM, "opening the port", ""),
        (r"Load weight begin", LOAD, "loading the weights", ""),
        (r"Load weight end\. elapsed=(?P<share>[\d.]+) s", LOAD, "weights loaded in {share} s", ""),
        (r"KV Cache is allocated\..*#tokens: (?P<share>\d+)", PROFILE, "KV cache of {share} tokens", ""),
        (r"Capturing batches.*" + _BAR, GRAPHS, "capturing graphs: {done} of {total}", "graphs"),
        (r"Capture \S* ?(?:cuda|CUDA) graph begin", GRAPHS, "capturing graphs", ""),
    )
)

# What an engine says because nothing happens: no sign that a start comes on.
_IDLE = re.compile(
    "|".join(
        (
            r"No available shared memory broadcast block found",  # every 60 s, vllm/distributed/.../shm_broadcast.py
            r"Waiting for .* core engine proc",  # every 10 s at level debug, vllm/v1/engine/utils.py
            r"Error while downloading from|Trying to resume download|Retrying in \S+ \[Retry",  # huggingface_hub
            r"thrown while requesting (?:HEAD|GET)",  # huggingface_hub/utils/_http.py
            r"Avg prompt throughput",  # every 10 s, vllm/v1/metrics/loggers.py
            r'"(?:GET|POST) /\S* HTTP/1\.[01]" \d{3}',  # somebody asks the server
            r"^(?:\x1b\[[0-9;]*m|\([^)]*\)|\s)*$",
        )
    )
)


def mark_of(line: str) -> Mark | None:
    """What this line announces, or None."""
    for pattern, phase, words, unit in _MARKS:
        if found := pattern.search(line):
            groups = found.groupdict()
            done, total = int(groups.get("done") or 0), int(groups.get("total") or 0)
            return Mark(phase=phase, words=words.format(**groups), done=done, total=total, unit=unit)
    return None


def is_idle(line: str) -> bool:
    """Whether an engine writes such a line while it waits."""
    return bool(_IDLE.search(line))
