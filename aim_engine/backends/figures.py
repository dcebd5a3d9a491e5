"""What an engine says of its own memory: lines of its log and the text of its /metrics in, bytes and blocks by our own
names out. Pure, and light: the sidecar and the watch load it. Each engine's texts are in one table.

The log's lines are printed on GPUs only. They were written down from vLLM's sources (v1/worker/gpu_worker.py,
gpu_model_runner.py, 0.10 to 0.32) and from logs that people have published; none was seen here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from aim_engine.backends.counters import finite

GIB = 1024**3

_SIZE = r"(?P<{}>-?\d+(?:\.\d+)?) GiB"
# Of one device each, as its worker says it. Until 0.2x the last line names weights and the rest apart, and at first it
# is for debugging only.
_LINES: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern)
    for pattern in (
        rf"Model loading took {_SIZE.format('weights')}",
        rf"Available KV cache memory: {_SIZE.format('kv_cache')}",
        rf"Graph capturing finished in .*took {_SIZE.format('graphs')}",
        rf"Actual usage is {_SIZE.format('consumed')} for consumed memory .*?"
        rf"{_SIZE.format('activations')} for peak activation.*?{_SIZE.format('graphs')} for CUDAGraph memory",
        rf"Actual usage is {_SIZE.format('weights')} for weights?, {_SIZE.format('activations')} for peak activation, "
        rf"{_SIZE.format('other')} for non-torch memory.*?{_SIZE.format('graphs')} for CUDAGraph memory",
    )
)
_LEAST = ("kv_cache",)  # the device with the least decides; of all else the one with the most

_CACHE_METRIC = re.compile(r"^vllm:cache_config_info\{(?P<labels>.*)\} ", re.MULTILINE | re.ASCII)
_LABEL = re.compile(r'(?P<name>[a-zA-Z_]\w*)="(?P<value>(?:[^"\\]|\\.)*)"', re.ASCII)


@dataclass(frozen=True, kw_only=True)
class CacheFigures:
    """The KV cache of one of the engine's copies; `tokens` and `concurrency` are None where the engine is too old to
    say (vLLM before 0.25).
    """

    blocks: int
    block_tokens: int | None
    tokens: int | None
    concurrency: float | None

    def as_json(self) -> dict[str, int | float | None]:
        return asdict(self)


def with_line(known: Mapping[str, int], line: str) -> Mapping[str, int]:
    """What is known, and what this line of the log adds, in bytes: `weights`, `consumed` (weights and all that is not
    the framework's), `other` (that without weights), `activations`, `graphs`, `kv_cache`.
    """
    if " GiB" not in line:  # as good as all lines
        return known
    for pattern in _LINES:
        if found := pattern.search(line):
            told = {name: int(float(text) * GIB) for name, text in found.groupdict().items()}
            return {**known, **{name: _of_all(name, size, known) for name, size in told.items()}}
    return known


def _of_all(name: str, size: int, known: Mapping[str, int]) -> int:
    if name not in known:
        return size
    return min(size, known[name]) if name in _LEAST else max(size, known[name])


def read_cache(text: str) -> CacheFigures | None:
    """What the metrics say of the KV cache; of several copies the smallest one's."""
    found = []
    for sample in _CACHE_METRIC.finditer(text):
        labels = {label["name"]: label["value"] for label in _LABEL.finditer(sample["labels"])}
        blocks = _whole(labels.get("num_gpu_blocks"))
        if blocks is not None:
            found.append(CacheFigures(
                blocks=blocks,
                block_tokens=_whole(labels.get("block_size")),
                tokens=_whole(labels.get("kv_cache_size_tokens")),
                concurrency=finite(labels.get("kv_cache_max_concurrency")),
            ))  # fmt: skip
    return min(found, key=lambda one: one.blocks, default=None)


def _whole(text: str | None) -> int | None:
    number = finite(text)
    return int(number) if number is not None and number >= 0 else None
