"""Measure the search for GPUs: as a whole process where there is none, and amdsmi's part of it over the tests' stand-in
for ROCm's library, where 64 partitions are pretended.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from aim_engine.hardware.amd.detector import AmdSmiDetector
from aim_engine.hardware.inventory import Surroundings
from scripts.bench_numbers import BenchError, Result, result
from scripts.bench_plan import AIM_ENGINE, run
from tests.fakes import amd_smi

VERSION = "7.0.2"  # the amdsmi that the development environment has
PACKAGES, PARTS = 8, 8


def bench_detect(runs: int | None) -> list[Result]:
    """`aim-engine detect` on this machine, and amdsmi's answer about 64 CPX partitions (its child process included)."""
    here = [run([AIM_ENGINE, "detect"])[0] for _ in range(runs or 11)]
    with tempfile.TemporaryDirectory() as scratch:
        stand_in = amd_smi.build(VERSION, amd_smi.package(VERSION, Path(scratch)), Path(scratch))
        gpus = amd_smi.partitioned([amd_smi.MI300X] * PACKAGES, PARTS, compute="CPX", memory_mode="NPS4")
        environment = {"PATH": os.environ.get("PATH", ""), **stand_in.environment(gpus)}
        there = [_ask(environment) for _ in range(runs or 11)]
    return [
        result("detect on this machine, without a GPU: wall time", "s", 0.20, here),
        result(f"{PACKAGES * PARTS} CPX partitions through amdsmi over a stand-in: time", "s", 0.5, there),
    ]


def _ask(environment: dict[str, str]) -> float:
    started = time.monotonic()
    finding = AmdSmiDetector().detect(Surroundings(environment=environment))
    seconds = time.monotonic() - started
    if len(finding.gpus) != PACKAGES * PARTS:
        raise BenchError(f"the stand-in's partitions were not found: {finding.reason or len(finding.gpus)}")
    return seconds
