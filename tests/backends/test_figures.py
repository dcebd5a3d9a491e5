"""figures.py: what vLLM says of its memory. The metrics are those of a real server on a CPU; the log's lines are
printed on GPUs only, so these are replayed from published logs and from vLLM's sources, with the numbers of there.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.backends.figures import CacheFigures, read_cache, with_line

GIB = 1024**3

# vLLM 0.32's own text (v1/worker/gpu_worker.py), the numbers of a published log
NEW = (
    "(EngineCore pid=326) INFO 10-06 17:00:41 [gpu_worker.py:955] Free memory on device (78.84/79.25 GiB) on startup. "
    "Desired GPU memory utilization is (0.92, 72.91 GiB). Actual usage is 15.26 GiB for consumed memory (weights + "
    "non-torch), 1.44 GiB for peak activation, and 0.23 GiB for CUDAGraph memory. Replace gpu_memory_utilization "
    "config with `--kv-cache-memory=60193144832` (56.06 GiB) to fit into requested memory, or "
    "`--kv-cache-memory=66557968384` (61.99 GiB) to fully utilize gpu memory. Current kv cache memory in use is "
    "56.21 GiB."
)
# as 0.11.1 prints it, which is in the image's base
OLD = (
    "(Worker_TP1 pid=1806414) INFO 10-23 15:14:56 [gpu_worker.py:391] Free memory on device (139.21/139.81 GiB) on "
    "startup. Desired GPU memory utilization is (0.9, 125.83 GiB). Actual usage is 74.28 GiB for weight, 5.58 GiB for "
    "peak activation, 1.38 GiB for non-torch memory, and 2.37 GiB for CUDAGraph memory. Replace gpu_memory_utilization "
    "config with `--kv-cache-memory=45175492096` to fit into requested memory."
)
METRIC = (
    "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n# TYPE vllm:cache_config_info gauge\n"
    'vllm:cache_config_info{block_size="128",cache_dtype="auto",enable_prefix_caching="True",engine="0",'
    'gpu_memory_utilization="0.92",kv_cache_max_concurrency="1.0625",kv_cache_memory_bytes="1114112",'
    'kv_cache_size_tokens="2176",num_gpu_blocks="17",x="a\\"b,num_gpu_blocks=\\"9"} 1.0\n'
)


def gib(number: float) -> int:
    return int(number * GIB)


def after(*lines: str) -> dict[str, int]:
    known: dict[str, int] = {}
    for line in lines:
        known = dict(with_line(known, line))
    return known


def test_the_newer_line() -> None:
    assert after(NEW) == {"consumed": gib(15.26), "activations": gib(1.44), "graphs": gib(0.23)}


def test_the_older_line() -> None:
    found = {"weights": gib(74.28), "activations": gib(5.58), "other": gib(1.38), "graphs": gib(2.37)}
    assert after(OLD) == found


@pytest.mark.parametrize(
    ("line", "name", "size"),
    [("INFO [gpu_model_runner.py:5150] Model loading took 15.0 GiB memory and 5.420225 seconds", "weights", 15.0),
     ("INFO [gpu_worker.py:692] Available KV cache memory: 56.21 GiB", "kv_cache", 56.21),
     ("INFO [model_runner.py:747] Graph capturing finished in 1 secs, took 0.40 GiB", "graphs", 0.4),
     ("INFO [gpu_worker.py:692] Available KV cache memory: -0.5 GiB", "kv_cache", -0.5)],
)  # fmt: skip
def test_the_short_lines(line: str, name: str, size: float) -> None:
    assert after(line) == {name: gib(size)}


def test_of_several_devices_the_one_with_the_least_room_counts() -> None:
    lines = [f"(Worker_TP{n}) Available KV cache memory: {free} GiB" for n, free in enumerate((50.0, 49.5, 50.1))]
    lines += [
        f"(Worker_TP{n}) Model loading took {held} GiB memory and 1 seconds" for n, held in enumerate((7, 7.5, 7))
    ]
    assert after(*lines) == {"kv_cache": gib(49.5), "weights": gib(7.5)}


@pytest.mark.parametrize("line", ["", "Loading weights took 3.2 seconds", "Actual usage is 3 GiB", "KV cache: 5 GiB"])
def test_other_lines_tell_nothing(line: str) -> None:
    assert after(line) == {}


@given(st.text())
def test_no_line_makes_it_raise(text: str) -> None:
    with_line({}, f"{text} GiB Actual usage is {text} GiB")
    read_cache(f"vllm:cache_config_info{{{text}}} 1\n{text}")


def test_the_metric_tells_of_the_cache() -> None:
    assert read_cache(METRIC) == CacheFigures(blocks=17, block_tokens=128, tokens=2176, concurrency=1.0625)


def test_of_several_copies_the_smallest_counts() -> None:
    other = METRIC.replace('num_gpu_blocks="17"', 'num_gpu_blocks="15"').replace('engine="0"', 'engine="1"')
    found = read_cache(METRIC + other)
    assert found is not None
    assert found.blocks == 15


def test_an_old_engine_tells_blocks_only() -> None:
    found = read_cache('vllm:cache_config_info{block_size="16",num_gpu_blocks="2051"} 1.0\n')
    assert found == CacheFigures(blocks=2051, block_tokens=16, tokens=None, concurrency=None)


@pytest.mark.parametrize(
    "text", ["", "vllm:cache_config_info 1", 'vllm:cache_config_info{num_gpu_blocks="None"} 1.0',
             'vllm:cache_config_info{num_gpu_blocks="-3"} 1.0', 'other:cache_config_info{num_gpu_blocks="3"} 1.0']
)  # fmt: skip
def test_without_blocks_nothing_is_known(text: str) -> None:
    assert read_cache(text) is None
