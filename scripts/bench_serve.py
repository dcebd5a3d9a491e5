"""Measure `aim-engine serve` with a tiny model: the way to the exec and to the first answer, beside the very same vLLM
command run bare, and the memory of our own processes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import serving
from scripts.bench_numbers import BenchError, Result, in_turns, ratio, result, say

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / ".demo" / "tiny-random-qwen3"
AIM_ENGINE = str(Path(sys.executable).with_name("aim-engine"))
START_LIMIT_SECONDS = 300.0
FIRST_QUESTION = {"prompt": "a", "max_tokens": 1, "temperature": 0}


@dataclass(frozen=True)
class Run:
    """One server that was started: when (monotonic), its ports and its state folder."""

    server: serving.Server
    started: float
    port: int
    state: Path
    health_port: int = 0


def bench_exec(runs: int | None) -> list[Result]:
    """From the start of `aim-engine serve` to the exec of the engine, which the timeline in the state folder tells."""
    return [result("serve: start to the engine's exec", "s", 0.6, [_exec_seconds() for _ in range(runs or 5)])]


def _exec_seconds() -> float:
    with serving_tiny() as run:
        while not (found := executed_at(run.state)):
            still_running(run)
            time.sleep(0.01)
        return found - run.started


def executed_at(state: Path) -> float | None:
    try:
        lines = (state / "timeline.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return next((float(entry["monotonic"]) for entry in map(json.loads, lines) if entry.get("event") == "exec"), None)


def bench_ready(runs: int | None) -> list[Result]:
    """To the first answered token, through AIM Engine and by the very same command run bare, in turns."""
    with serving_tiny() as run:  # warms the caches that both use, and shows what the command is
        first_answer(run)
        plan = json.loads((run.state / "plan.json").read_text(encoding="utf-8"))
    samples = in_turns({"aim": _aim_seconds, "bare": lambda: _bare_seconds(plan["command"])}, runs or 5)
    return [
        result("serve: start to the first answer", "s", None, samples["aim"]),
        result("the same vLLM command, bare", "s", None, samples["bare"]),
        ratio("start to the first answer: AIM Engine / bare", 1.02, samples["aim"], samples["bare"]),
    ]


def _aim_seconds() -> float:
    with serving_tiny() as run:
        return first_answer(run)


def _bare_seconds(command: Mapping[str, Any]) -> float:
    """The server's command as plan.json has it, in the environment that AIM Engine would give it."""
    argv = [str(word) for word in command["argv"]]
    kept = {name: value for name, value in os.environ.items() if name not in command.get("unset", ())}
    port = int(argv[argv.index("--port") + 1])
    with tempfile.TemporaryDirectory() as scratch:
        started = time.monotonic()
        server = serving.start(argv, log=Path(scratch, "log"), env={**kept, **command["env"]})
        with ended(server):
            return first_answer(Run(server, started, port, Path(scratch)))


def bench_memory(runs: int | None) -> list[Result]:
    """The proportional set size of AIM Engine's own processes, all together, once the server is ready."""
    samples = []
    for _ in range(runs or 2):
        with serving_tiny() as run:
            first_answer(run)
            time.sleep(3)
            samples.append(_own_megabytes(run))
    return [
        result(f"memory (PSS): {name}", "MB", 90 if name == "all together" else None, [s[name] for s in samples])
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
def serving_tiny(
    *more: str, model: Path = MODEL, environment: Mapping[str, str] | None = None
) -> Iterator[Run]:  # fmt: skip
    """`aim-engine serve` of the tiny model, ended when the block is left."""
    make_model()
    port, health_port = serving.free_ports(2)
    scratch = Path(tempfile.mkdtemp(prefix="aim-bench-"))
    argv = [AIM_ENGINE, "serve", str(model), "--hardware", "cpu", "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--health-port", str(health_port), "--state-dir", str(scratch / "state"), *more]
    try:
        started = time.monotonic()
        server = serving.start(argv, log=scratch / "log", env={**os.environ, "AIM_OFFLINE": "1", **(environment or {})})
        with ended(server):
            yield Run(server, started, port, scratch / "state", health_port)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def ended(server: serving.Server) -> Iterator[None]:
    try:
        yield
    finally:
        server.stop()
        if left := server.end_leftovers():
            say("left behind, and ended now: " + "; ".join(left))


def make_model() -> None:
    maker = ROOT / "scripts" / "tiny_model.py"  # a process of its own: torch would count as our memory
    made = subprocess.run([sys.executable, str(maker), str(MODEL)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise BenchError(made.stderr.strip())


def first_answer(run: Run) -> float:
    """Seconds from the start to the first answered completion of one token."""
    while serving.ask(run.port, "/v1/completions", FIRST_QUESTION, timeout=60)[0] != 200:
        still_running(run)
        time.sleep(0.05)
    return time.monotonic() - run.started


def still_running(run: Run) -> None:
    if run.server.has_ended:
        raise BenchError(f"the server ended with {run.server.process.returncode}:\n{run.server.log_tail(15)}")
    if time.monotonic() - run.started > START_LIMIT_SECONDS:
        raise BenchError(f"the server was not there after {START_LIMIT_SECONDS:g} s:\n{run.server.log_tail(15)}")
