"""Measure how the reading of one model's recipes, and of its card, grows with the catalogue: side by side, in one
process, because the start of a process would hide it (`plan` measures whole processes).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

from aim_engine.catalog.load import CatalogFolders, load_catalog
from scripts.bench_numbers import Result, in_turns, ratio, result
from scripts.bench_plan import PLANNED_MODEL

ROOT = Path(__file__).resolve().parent.parent
_TIMES = 100
_LOADS = 20  # in one sample: a single one takes milliseconds


def bench_catalogue(runs: int | None) -> list[Result]:
    """The built-in catalogue beside one a hundred times as large, of the same models under other names."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = {times: _catalogue(Path(scratch, str(times)), times) for times in (1, _TIMES)}
        counts = {times: sum(1 for _ in found.recipes[0].rglob("*.yaml")) for times, found in folders.items()}
        measures = {times: partial(_seconds, found) for times, found in folders.items()}
        in_turns(measures, 2)  # warms the disk's cache
        samples = in_turns(measures, runs or 21)
    name = f"loading the recipes of {PLANNED_MODEL}"
    milliseconds = [1000 * seconds for seconds in samples[1]]
    return [
        result(f"{name}, of {counts[1]} in all", "ms", None, milliseconds),
        ratio(f"{name}: with {counts[_TIMES]:,} recipes / with {counts[1]}", 1.1, samples[_TIMES], samples[1]),
    ]


def _catalogue(folder: Path, times: int) -> CatalogFolders:
    """The built-in recipes and cards; the further copies below organisations of other names. Linked, not copied: what
    is in them is never read.
    """
    found = CatalogFolders(recipes=(folder / "recipes",), models=(folder / "models",))
    for root in (*found.recipes, *found.models):
        shutil.copytree(ROOT / root.name, root)
        for organisation in sorted(path for path in root.iterdir() if path.is_dir() and path.name != "_families"):
            for copy in range(1, times):
                shutil.copytree(organisation, root / f"{organisation.name}-{copy}", copy_function=_link)
    return found


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _seconds(folders: CatalogFolders) -> float:
    """Of one load."""
    started = time.perf_counter()
    for _ in range(_LOADS):
        load_catalog(PLANNED_MODEL, folders)
    return (time.perf_counter() - started) / _LOADS
