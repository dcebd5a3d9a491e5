"""What the matrix of real starts found, as it was kept: a part of docs/memory.md out. Starts nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STARTS = Path(__file__).resolve().parent.parent / "tests/fixtures/memory/starts.json"


def starts_kept() -> dict[str, Any]:
    """What `python -m scripts.bench_matrix --record` kept."""
    kept: dict[str, Any] = json.loads(STARTS.read_text())
    return kept


def section(kept: dict[str, Any]) -> list[str]:
    """The lines of the page."""
    return [
        "",
        "## Real starts",
        "",
        f"Kept by `python -m scripts.bench_matrix --record`: {kept['cases']} cases with a fixed seed, over "
        f"{len(kept['rows'])} tiny models, numbers of requests, block sizes, steps, cache types and prefix caching. In "
        f"{kept['at_the_edge']} the room for the KV cache is at the edge: just what the plan needs, a byte or a block "
        "less, or whatever lies between two blocks, for the longest context that fits.",
        "",
        f"Each was planned as `aim-engine plan` does, and {kept['engine']} was started {kept['starts']} times with the "
        "plan's own words and random weights: its parser, engine core, worker and cache are real, only the HTTP side "
        "is left out. Where there was no plan, it got the words and the room that a plan would have had; after the "
        "longest context, one token more.",
        "",
        "| what | found | of |",
        "| --- | --- | --- |",
        *(f"| {one['name']} | {one['value']:.3g}{' ' * bool(one['unit'])}{one['unit']} | {one['runs']} |"
          for one in kept["results"]),
        "",
        "| model | plans | refusals | and one token more | figures compared | wrong |",
        "| --- | --- | --- | --- | --- | --- |",
        *(f"| {row['model']} | {row['accepted']} | {row['refused']} | {row['beyond']} | {row['compared']} "
          f"| {row['wrong']} |" for row in kept["rows"]),
        "",
        "Left out: " + "; ".join(f"{name}, because {why}" for name, why in kept["left_out"].items()) + ".",
    ]  # fmt: skip
