"""Measure how long the headers of a model in many files take, asked of a hub of our own at a distance in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.bench_numbers import BenchError, Result, result
from tests.building import ROOT, TINY_CONFIG, safetensors

SHARDS, TENSORS, MILLISECONDS = 100, 500, 20  # DeepSeek-V3 has 163 files of about 560 tensors
MODEL = "bench/sharded"

# A process of its own, as a plan is one; what it imports counts.
_READ = """
import os, sys, time
began = time.monotonic()
from aim_engine.catalog.hub import checkpoint_at_hub
found = checkpoint_at_hub({model!r}, token=None, environment=dict(os.environ))
print(time.monotonic() - began, len(found.tensors))
"""
# The hub's own client, in the same way; it shows a bar on stderr.
_CLIENT = """
import time
began = time.monotonic()
import huggingface_hub
found = huggingface_hub.get_safetensors_metadata({model!r})
print(time.monotonic() - began, sum(len(file.tensors) for file in found.files_metadata.values()))
"""


def bench_hub(runs: int | None) -> list[Result]:
    """The headers of a model in 100 files, at a hub 20 ms away in each answer, redirects included."""
    ours, client = [], []
    with tempfile.TemporaryDirectory() as scratch:
        _make(Path(scratch, "hub", MODEL))
        with _hub(Path(scratch, "hub")) as address:
            for turn in range(runs or 5):
                home = str(Path(scratch, f"home-{turn}"))
                ours.append(_seconds(_READ, address, home))
                client.append(_seconds(_CLIENT, address, home))
    name = f"headers of {SHARDS} files with {TENSORS} tensors each, a hub {MILLISECONDS} ms away"
    return [
        result(f"{name}: time", "s", 3.0, ours),
        result(f"{name}: huggingface_hub's own get_safetensors_metadata", "s", None, client),
    ]


def _make(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TINY_CONFIG))
    places: dict[str, str] = {}
    for number in range(SHARDS):
        file = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        names = [f"model.layers.{number}.mlp.experts.{index}.down_proj.weight" for index in range(TENSORS)]
        (folder / file).write_bytes(safetensors(dict.fromkeys(names, ("BF16", (8, 16), 2))))
        places |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@contextmanager
def _hub(folder: Path) -> Iterator[str]:
    """A hub in a process of its own: its address."""
    argv = [sys.executable, "-m", "tests.fakes.hub", str(folder), str(MILLISECONDS)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip() if process.stdout else ""
        if not address:
            raise BenchError("the hub of our own did not start")
        try:
            yield address
        finally:
            process.communicate(timeout=30)  # the end of its stdin ends it


def _seconds(code: str, address: str, home: str) -> float:
    environment = {"PATH": os.environ.get("PATH", ""), "HF_ENDPOINT": address, "HOME": home, "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    argv = [sys.executable, "-c", code.format(model=MODEL)]
    done = subprocess.run(argv, env=environment, cwd=home.rpartition("/")[0],
                          capture_output=True, text=True, timeout=600, check=False)  # fmt: skip
    seconds = time.monotonic() - started
    if done.returncode or done.stdout.split()[-1] != str(SHARDS * TENSORS):
        raise BenchError(f"the headers were not read: {done.stdout[-100:]} {done.stderr[-500:]}")
    return seconds
