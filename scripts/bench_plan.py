"""Measure `aim-engine plan` as a whole process: its time and memory, and how they grow with the catalogue."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from scripts.bench_numbers import BenchError, Result, in_turns, ratio, result

AIM_ENGINE = str(Path(sys.executable).with_name("aim-engine"))
PLANNED_MODEL, PLANNED_HARDWARE = "Qwen/Qwen3-32B", "MI300X:8"


def bench_plan(runs: int | None) -> list[Result]:
    """The time and memory of `aim-engine plan` as a whole process, and how they grow with the catalogue."""
    plain = [AIM_ENGINE, "plan", PLANNED_MODEL, "--hardware", PLANNED_HARDWARE]
    with tempfile.TemporaryDirectory() as scratch:
        folders = {count: _make_recipes(Path(scratch, str(count)), count) for count in (100, 10_000)}
        commands = {0: plain} | {count: [*plain, "--recipes-dir", str(path)] for count, path in folders.items()}
        measures = {count: partial(run, argv) for count, argv in commands.items()}
        in_turns(measures, 1)  # warms the disk's cache
        samples = in_turns(measures, runs or 21)
    seconds = {count: [sample[0] for sample in found] for count, found in samples.items()}
    megabytes = [sample[1] for sample in samples[0]]
    name = f"plan {PLANNED_MODEL} on {PLANNED_HARDWARE}"
    return [
        result(f"{name}: wall time", "s", 0.20, seconds[0]),
        result(f"{name}: peak memory (RSS)", "MB", 45, megabytes),
        *(
            ratio(f"{name}: time with {count:,} more recipes / without", 1.1, seconds[count], seconds[0])
            for count in folders
        ),
    ]


def _make_recipes(folder: Path, count: int) -> Path:
    """Recipes of `count` other models, spread over organisations of 100 models each."""
    for index in range(count):
        recipe_id, model_id = f"model-{index}-mi300x-bf16", f"bench-{index // 100}/model-{index}"
        place = folder / model_id
        place.mkdir(parents=True)
        (place / f"{recipe_id}.yaml").write_text(
            f"recipe_id: {recipe_id}\nmodel_id: {model_id}\nprecision: bf16\nhardware: {{gpu_type: MI300X}}\n"
            "vllm_serve:\n  1_gpu: {args: {max-model-len: 32768}}\n",
            encoding="utf-8",
        )
    return folder


def run(argv: list[str]) -> tuple[float, float]:
    """Run to the end: seconds, and the peak RSS in MB. The kernel counts our own size before the exec too, and that
    is far below what is measured (execve(2): fs/exec.c hands mm's high-water mark on).
    """
    started = time.monotonic()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise BenchError(f"{' '.join(argv)} ended with {process.returncode}: {said.decode(errors='replace')[-500:]}")
    return seconds, usage.ru_maxrss * 1024 / 1e6
