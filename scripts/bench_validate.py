"""Measure `aim-engine validate --engine` as a whole process: over the catalogue, and over many recipes."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from scripts.bench_numbers import BenchError, Result, in_turns, result
from scripts.bench_plan import AIM_ENGINE

ROOT = Path(__file__).resolve().parent.parent
MANY = 150


def bench_validate(runs: int | None) -> list[Result]:
    """The time in which the installed engine is asked about every recipe. It is imported once, which is most of it."""
    with tempfile.TemporaryDirectory() as scratch:
        many = _copies(Path(scratch))
        commands = {"its own catalogue": [], f"{MANY} recipes": [str(many)]}
        samples = in_turns({name: partial(_seconds, words) for name, words in commands.items()}, runs or 3)
    return [result(f"validate --engine of {name}", "s", 60, found) for name, found in samples.items()]


def _copies(folder: Path) -> Path:
    """Copies of the shipped recipes with GPUs of their own models, under ids of their own, until there are many."""
    shipped = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if "_families" not in path.parts)
    for index in range(MANY):
        source = shipped[index % len(shipped)]
        recipe_id, model_id = f"copy-{index}", f"bench/model-{index}"
        text = re.sub(r"^recipe_id: .*$", f"recipe_id: {recipe_id}", source.read_text("utf-8"), flags=re.MULTILINE)
        text = re.sub(r"^model_id: .*$", f"model_id: {model_id}", text, flags=re.MULTILINE)
        (folder / model_id).mkdir(parents=True)
        (folder / model_id / f"{recipe_id}.yaml").write_text(text, "utf-8")
    return folder


def _seconds(words: list[str]) -> float:
    started = time.monotonic()
    argv = [AIM_ENGINE, "validate", "--engine", *words]
    ran = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ran.returncode != 0:
        raise BenchError(f"{' '.join(argv)} ended with {ran.returncode}: {ran.stderr[-500:]}")
    return time.monotonic() - started
