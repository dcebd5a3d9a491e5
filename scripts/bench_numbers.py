"""Samples come in, numbers beside their goals go out: medians, ratios and differences of what ran in turns. Knows
nothing of what was measured.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BenchError(Exception):
    """Nothing could be measured; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number. `low` and `high` are the least and the greatest of the runs; `goal` is met when value <= goal, and
    where there is a tolerance, when value is no further from the goal than that.
    """

    name: str
    value: float
    unit: str
    goal: float | None
    tolerance: float | None = None
    runs: int
    low: float
    high: float

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "–"
        if self.tolerance is None:
            return "ok" if self.value <= self.goal else "missed"
        return "ok" if abs(self.value - self.goal) <= self.tolerance else "missed"

    @property
    def goal_text(self) -> str:
        if self.goal is None:
            return "–"
        if self.tolerance is None:
            return f"<= {self.goal:g} {self.unit}"
        return f"{self.goal:g} ± {self.tolerance:g} {self.unit}"


def in_turns(measures: Mapping[K, Callable[[], V]], runs: int) -> dict[K, list[V]]:
    """Each measure `runs` times, in turns."""
    samples: dict[K, list[V]] = {name: [] for name in measures}
    for _ in range(runs):
        for name, measure in measures.items():
            samples[name].append(measure())
    return samples


def result(
    name: str, unit: str, goal: float | None, samples: Sequence[float], tolerance: float | None = None
) -> Result:
    return Result(name=name, value=statistics.median(samples), unit=unit, goal=goal, tolerance=tolerance,
                  runs=len(samples), low=min(samples), high=max(samples))  # fmt: skip


def ratio(
    name: str, goal: float | None, above: Sequence[float], below: Sequence[float]
) -> Result:  # fmt: skip
    """The ratio of the medians; low and high are those of the single turns."""
    turns = [a / b for a, b in zip(above, below, strict=True)]
    return Result(name=name, value=statistics.median(above) / statistics.median(below), unit="×", goal=goal,
                  runs=len(turns), low=min(turns), high=max(turns))  # fmt: skip


def difference(
    name: str, unit: str, goal: float | None, greater: Sequence[float], smaller: Sequence[float]
) -> Result:  # fmt: skip
    """The difference of the medians; low and high are those of the single turns."""
    turns = [a - b for a, b in zip(greater, smaller, strict=True)]
    return Result(name=name, value=statistics.median(greater) - statistics.median(smaller), unit=unit, goal=goal,
                  runs=len(turns), low=min(turns), high=max(turns))  # fmt: skip


def as_rows(results: Sequence[Result]) -> list[str]:
    """The lines of a Markdown table."""
    rows = ["| what | median | goal | | runs, least to greatest |", "| --- | --- | --- | --- | --- |"]
    for r in results:
        rows.append(
            f"| {r.name} | {_digits(r.value)} {r.unit} | {r.goal_text} | {r.verdict} "
            f"| {r.runs}: {_digits(r.low)} to {_digits(r.high)} |"
        )
    return rows


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
