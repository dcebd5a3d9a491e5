"""How far a start has come: a line of the engine's log in, a stage in words out.

Pure; the texts are vLLM's (vllm/v1/engine/core.py, vllm/v1/worker/gpu_model_runner.py, vllm/model_executor/
model_loader/default_loader.py) and sglang's (srt/model_executor/model_runner.py, its kv_pool_runtime.py and graph
runners). An engine with other texts just shows no stages.
"""

from __future__ import annotations

import re

_STAGES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"Initializing a V1 LLM engine", "the engine process is up"),
        (r"Starting to load model", "loading the weights"),
        (r"(?:Loading|Completed) .*checkpoint shards:\s+(?P<share>\d+%)", "loading the weights: {share}"),
        (r"Loading weights took (?P<share>[\d.]+) seconds", "weights loaded in {share} s"),
        (r"Available KV cache memory: (?P<share>[\d.]+ GiB)", "{share} of memory for the KV cache"),
        (r"KV cache size: (?P<share>[\d,]+) tokens", "KV cache of {share} tokens"),
        (r"Capturing CUDA graphs", "capturing graphs"),
        (r"init engine .* took (?P<share>[\d.]+) s", "engine initialised in {share} s"),
        (r"Starting vLLM (?:API )?server", "opening the port"),
        (r"Load weight begin", "loading the weights"),
        (r"(?:Multi-thread loading|Loading \S+ checkpoint) shards:\s+(?P<share>\d+%)", "loading the weights: {share}"),
        (r"Load weight end\. elapsed=(?P<share>[\d.]+) s", "weights loaded in {share} s"),
        (r"KV Cache is allocated\..*#tokens: (?P<share>\d+)", "KV cache of {share} tokens"),
        (r"Capture \S* ?(?:cuda|CUDA) graph begin", "capturing graphs"),
        (r"Application startup complete", "opening the port"),
    )
)


def stage_of(line: str) -> str | None:
    """The stage that this line announces, or None."""
    for pattern, sentence in _STAGES:
        if found := pattern.search(line):
            return sentence.format(**found.groupdict())
    return None
