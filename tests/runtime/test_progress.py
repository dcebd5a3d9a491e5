"""progress.py and start.py on what engines have really written: a CPU's, and GPUs' replayed from what was published.

Replayed: github.com/vllm-project/vllm issues 38820 (shards) and 27313 (two workers and graphs), and
github.com/noonghunna/club-3090 issue 75 (a cold compile); shortened to one line of each kind.
"""

from __future__ import annotations

import pytest

from aim_engine.runtime.phases import BY_NAME
from aim_engine.runtime.progress import PHASES, Mark, is_idle, mark_of
from aim_engine.runtime.start import Start, begin, marked, moved

REPLAYED = """\
(APIServer pid=1) INFO 05-06 20:58:59 [utils.py:233] non-default args: {'model': 'org/x'}
(EngineCore pid=43) INFO 05-06 20:59:05 [core.py:105] Initializing a V1 LLM engine (v0.20.2) with config: model='org/x'
(Worker_TP0 pid=52) INFO 05-06 20:59:20 [gpu_model_runner.py:4777] Starting to load model org/x...
Loading safetensors checkpoint shards:   0% Completed | 0/9 [00:00<?, ?it/s]
Loading safetensors checkpoint shards:  56% Completed | 5/9 [00:13<00:11,  2.87s/it]
(EngineCore pid=43) INFO 05-06 20:59:50 [shm_broadcast.py:681] No available shared memory broadcast block found in 60 \
seconds. This typically happens when some processes are hanging or doing some time-consuming work (e.g. compilation, \
weight/kv cache quantization).
Loading safetensors checkpoint shards: 100% Completed | 9/9 [00:29<00:00,  3.28s/it]
(Worker_TP0 pid=52) INFO 05-06 20:59:57 [default_loader.py:384] Loading weights took 24.84 seconds
(Worker_TP0 pid=52) INFO 05-06 20:59:59 [gpu_model_runner.py:4879] Model loading took 12.66 GiB memory and 31.66 s
(Worker_TP0 pid=52) INFO 05-06 05:40:50 [backends.py:1089] Using cache directory: /c/rank_0_0/x for vLLM's torch.compile
(Worker_TP0 pid=52) INFO 05-06 05:40:50 [backends.py:1148] Dynamo bytecode transform time: 8.78 s
(Worker_TP1 pid=53) Loading safetensors checkpoint shards: 100% Completed | 9/9 [00:29<00:00,  3.28s/it]
(Worker_TP0 pid=52) INFO 05-06 05:41:17 [backends.py:393] Compiling a graph for compile range (1, 8192) takes 26.64 s
(Worker_TP0 pid=52) INFO 05-06 05:41:30 [monitor.py:53] torch.compile took 48.89 s in total
(Worker_TP0 pid=52) INFO 05-06 05:42:24 [monitor.py:81] Initial profiling/warmup run took 53.79 s
(Worker_TP0 pid=52) INFO 10-22 09:33:49 [gpu_worker.py:298] Available KV cache memory: 11.17 GiB
(EngineCore pid=43) INFO 10-22 09:33:49 [kv_cache_utils.py:1087] GPU KV cache size: 162,704 tokens
Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  49%|████▉     | 33/67 [00:02<00:02, 11.74it/s]
Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%|██████████| 67/67 [00:05<00:00, 11.74it/s]
Capturing CUDA graphs (decode, FULL): 100%|██████████| 35/35 [00:02<00:00, 12.31it/s]
(Worker_TP0 pid=52) INFO 10-22 09:34:00 [gpu_model_runner.py:3480] Graph capturing finished in 8 secs, took 0.71 GiB
(EngineCore pid=43) INFO 10-22 09:34:00 [core.py:210] init engine (profile, create kv cache, warmup model) took 82.33 s
(APIServer pid=1) INFO 10-22 09:34:05 [api_server.py:1912] Starting vLLM API server 0 on http://0.0.0.0:8000
INFO:     Application startup complete.
"""


def told(text: str) -> list[Start]:
    """The start after each line, a second apart."""
    start, found = begin(7, 0.0), []
    for at, line in enumerate(text.splitlines(), 1):
        mark = mark_of(line)
        if mark:
            start = marked(start, mark, float(at))
        elif not is_idle(line):
            start = moved(start, float(at))
        found.append(start)
    return found


def test_a_gpu_s_start_replayed_comes_through_its_phases_in_order() -> None:
    starts = told(REPLAYED)
    assert list(dict.fromkeys(start.phase for start in starts)) == ["resolve", "load", "compile", "profile", "graphs",
                                                                    "warm"]  # fmt: skip
    assert [phase for phase, _ in starts[-1].steps] == ["resolve", "load", "compile", "profile", "graphs", "warm"]
    assert starts[4].words == "loading the weights: 5 of 9 shards"
    assert (starts[4].done, starts[4].total, starts[4].unit) == (5, 9, "shards")
    graphs = next(start for start in starts if start.phase == "graphs")
    assert (graphs.done, graphs.total, graphs.unit) == (33, 67, "graphs")
    assert starts[-1].words == "opening the port"


def test_lines_of_waiting_are_no_movement_and_all_others_are() -> None:
    still = [start for at, start in enumerate(told(REPLAYED), 1) if start.moved_at != at]
    assert len(still) == 1
    assert still[0].words == "loading the weights: 5 of 9 shards"


def test_a_worker_that_is_behind_does_not_take_the_start_back() -> None:
    starts = told(REPLAYED)
    behind = next(i for i, line in enumerate(REPLAYED.splitlines()) if line.startswith("(Worker_TP1"))
    assert starts[behind].phase == "compile"
    assert starts[behind].words == "compiling the model"


@pytest.mark.parametrize(
    ("line", "mark"),
    [
        ("INFO [gpu_model_runner.py:1] Starting to load model /m...", Mark(phase="load", words="loading the weights")),
        ("Loading safetensors checkpoint shards (eager):  50% Completed | 1/2 [00:01<00:01,  1.0s/it]",
         Mark(phase="load", words="loading the weights: 1 of 2 shards", done=1, total=2, unit="shards")),
        ("Multi-thread loading shards:  50% Completed | 4/8 [00:01<00:01,  1.0s/it]",
         Mark(phase="load", words="loading the weights: 4 of 8 shards", done=4, total=8, unit="shards")),
        ("Loading safetensors using Runai Model Streamer:  10% Completed | 29/290 [00:01<00:11, 25.1it/s]",
         Mark(phase="load", words="loading the weights: 29 of 290 tensors", done=29, total=290, unit="tensors")),
        ("INFO [model_runner.py:1] Load weight begin. avail mem=1 GB", Mark(phase="load", words="loading the weights")),
        ("INFO Capture cuda graph begin. This can take up to several minutes.",
         Mark(phase="graphs", words="capturing graphs")),
        ("INFO Warming up model for the compilation...", Mark(phase="compile", words="compiling the model")),
        ("INFO GPU KV cache size: 131,072 tokens", Mark(phase="profile", words="KV cache of 131,072 tokens")),
        ("INFO nothing of note", None),
    ],
)  # fmt: skip
def test_marks(line: str, mark: Mark | None) -> None:
    assert mark_of(line) == mark


@pytest.mark.parametrize(
    ("line", "idle"),
    [
        ("Error while downloading from http://hub/x: The read operation timed out", True),
        ("Trying to resume download...", True),
        ("DEBUG 04-18 [core_client.py:421] Waiting for 1 local, 0 remote core engine proc(s) to start.", True),
        ('INFO:     127.0.0.1:5 - "GET /health HTTP/1.1" 200 OK', True),
        ("INFO [loggers.py:1] Engine 000: Avg prompt throughput: 0.0 tokens/s", True),
        ("(EngineCore pid=7) ", True),
        ("INFO [cuda.py:1] Using FLASH_ATTN attention backend", False),
    ],
)
def test_lines_that_say_that_nothing_happens(line: str, idle: bool) -> None:
    assert is_idle(line) is idle


ON_A_CPU = """\
(EngineCore pid=27085) INFO 11-22 08:16:10 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='/m'
(EngineCore pid=27085) INFO 11-22 08:16:15 [cpu_model_runner.py:68] Starting to load model /m...
(EngineCore pid=27085) INFO 11-22 08:16:15 [base_loader.py:82] Initializing model took 0.620556 seconds
Loading safetensors checkpoint shards:   0% Completed | 0/1 [00:00<?, ?it/s]
Loading safetensors checkpoint shards: 100% Completed | 1/1 [00:00<00:00, 17.68it/s]
(EngineCore pid=27085) INFO 11-22 08:16:15 [default_loader.py:501] Loading weights took 0.06 seconds
(EngineCore pid=27085) INFO 11-22 08:16:20 [utils.py:347] Using LBHNC KV cache layout.
(EngineCore pid=27085) INFO 11-22 08:16:20 [cpu_model_runner.py:87] Warming up model for the compilation...
"""


def test_a_cpu_s_engine_as_it_was_seen() -> None:
    """vLLM 0.32 with compilation."""
    starts = told(ON_A_CPU)
    assert [phase for phase, _ in starts[-1].steps] == ["resolve", "load", "compile"]
    assert starts[4].words == "loading the weights: 1 of 1 shards"
    assert starts[-1].words == "compiling the model"


def test_compiling_may_come_after_the_cache_was_made() -> None:
    text = "CPU KV cache size: 4,096 tokens\nWarming up model for the compilation...\ninit engine (profile) took 9.1 s"
    assert [phase for phase, _ in told(text)[-1].steps] == ["resolve", "profile", "compile", "warm"]


def test_each_phase_has_a_limit_its_reason_and_a_remedy() -> None:
    assert tuple(BY_NAME) == PHASES
    for phase in BY_NAME.values():
        assert 60 <= phase.still_seconds <= 1800
        assert all((phase.name, phase.because, phase.remedy))
    assert "HF_" in BY_NAME["download"].remedy
    assert "disk" in BY_NAME["load"].remedy
    assert "AIM_CACHE_DIR" in BY_NAME["compile"].remedy
