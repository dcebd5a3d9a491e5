"""Measure the CPU image with real containers, beside its base image: the way to the server's exec, cold and warm starts
with where their time goes, and what it adds in size. What it costs in tokens per second is scripts/bench_throughput.py.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from scripts.bench_bare import bare
from scripts.bench_container import (
    IMAGE,
    PYTHON,
    Container,
    built_image,
    docker,
    remove_leftovers,
    removed,
    run_bare,
    run_image,
    scratch,
)
from scripts.bench_numbers import Result, difference, in_turns, ratio, result, say
from scripts.bench_phases import phases
from scripts.bench_serve import executed_at


def bench_image(runs: int | None) -> list[Result]:
    """Everything about the image, which is built first, as anybody builds it."""
    base = built_image()
    results = _size_rows(base)
    try:
        say("image: to the exec ...")
        results += _exec_rows(base, runs or 10)
        say("image: cold and warm starts ...")
        return results + _start_rows(base, runs or 5)
    finally:
        remove_leftovers()


def _size_rows(base: str) -> list[Result]:
    sizes, layers = zip(*(_size(name) for name in (IMAGE, base)), strict=True)
    return [
        difference("image: size over its base", "MB", 60, sizes[:1], sizes[1:]),
        difference("image: layers over its base", "layers", 6, layers[:1], layers[1:]),
    ]


def _size(name: str) -> tuple[float, int]:
    """Megabytes and layers."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", "--format", "{{json .}}", name))
    return found["Size"] / 1e6, len(found["RootFS"]["Layers"])


# --- to the exec -----------------------------------------------------------------------------------------------------


def _exec_rows(base: str, runs: int) -> list[Result]:
    command = _command()
    measures: dict[str, Callable[[], float]] = {"image": _image_exec, "base": partial(_bare_exec, base, command)}
    in_turns(measures, 1)  # warms the disk's cache
    samples = in_turns(measures, runs)
    return [
        result("image: docker run to the server's exec", "s", None, samples["image"]),
        result("base image: docker run to its first process", "s", None, samples["base"]),
        difference("image: what it adds before the exec", "s", 1.0, samples["image"], samples["base"]),
    ]


def _command() -> dict[str, Any]:
    """The command of the image's own plan, as its state folder keeps it."""
    with scratch() as folder, removed(run_image(folder)) as container:
        container.until(lambda: executed_at(container.state), 0.05)
        return container.command()


def _image_exec() -> float:
    with scratch() as folder, removed(run_image(folder)) as container:
        return container.until(lambda: executed_at(container.state), 0.01) - container.started


def _bare_exec(base: str, command: dict[str, Any]) -> float:
    """With the same mounts, ports and environment. The process is `cat /proc/uptime`, which needs a millisecond where
    an interpreter would need twenty to say what time it is; that file counts in hundredths, from the machine's boot.
    """
    uptime = replace(bare(command, PYTHON), argv=("cat", "/proc/uptime"))
    with scratch() as folder, removed(run_bare(base, folder, uptime)) as container:
        docker("wait", container.id)
        return float(docker("logs", container.id).split()[0]) - container.started_uptime


# --- to the first answer ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start: seconds to the first answer, and of each phase."""

    seconds: float
    phases: dict[str, float]


def _start_rows(base: str, runs: int) -> list[Result]:
    command = _command()
    with tempfile.TemporaryDirectory(prefix="aim-bench-") as kept:
        measures: dict[str, Callable[[], Start]] = {
            "image, cold cache": _image_start,
            "image, warm cache": partial(_image_start, Path(kept)),
            "base image, cold cache, the same vLLM command": partial(_bare_start, base, command),
        }
        in_turns(measures, 1)  # warms the disk's cache, and fills the warm one
        starts = in_turns(measures, runs)
    cold, warm, other = ([start.seconds for start in found] for found in starts.values())
    return [
        *(result(f"{name}: docker run to the first answer", "s", None, [start.seconds for start in found])
          for name, found in starts.items()),
        ratio("first answer: image, cold cache / warm cache", None, cold, warm),
        ratio("first answer: image, cold cache / base image, cold cache", None, cold, other),
        *(row for name, found in starts.items() for row in _phase_rows(name, found)),
    ]  # fmt: skip


def _phase_rows(name: str, starts: list[Start]) -> list[Result]:
    """A row for each phase that every start had."""
    names = [phase for phase in starts[0].phases if all(phase in start.phases for start in starts)]
    return [
        result(f"{name}: {phase}", "s", None, [start.phases[phase] for start in starts]) for phase in names
    ]  # fmt: skip


def _image_start(cache: Path | None = None) -> Start:
    with scratch() as folder, removed(run_image(folder, cache=cache)) as container:
        seconds = container.first_answer()
        executed = executed_at(container.state)
        assert executed is not None  # it has answered
        return _start(container, seconds, container.started_at + executed - container.started)


def _bare_start(base: str, command: dict[str, Any]) -> Start:
    with scratch() as folder, removed(run_bare(base, folder, bare(command, PYTHON))) as container:
        return _start(container, container.first_answer(), container.exec_at)


def _start(container: Container, seconds: float, executed: float) -> Start:
    began = container.started_at
    return Start(
        seconds=seconds, phases=phases(container.log(), start=began, executed=executed, answered=began + seconds)
    )
