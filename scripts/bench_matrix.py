"""Measure how often AIM Engine's plans and the real engine's start disagree: over cases near the edge of what fits.

    .venv/bin/python -m scripts.bench_matrix [--runs N] [--record] [NUMBER ...]

repeats single cases by their numbers; `--record` keeps the whole matrix for docs/memory.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aim_engine.plan import Plan, Refusal
from aim_engine.selection.kv_cache import Capacity
from scripts.bench_numbers import BenchError, Result, say
from scripts.memory_agrees import CPU_DISTRIBUTION, MODELS, PAGE, ROOT, metadata_of_the_cpu_build, page, recorded
from scripts.memory_starts import STARTS
from scripts.start_cases import NOT_ON_A_CPU, Case, Place, case_of, lengthened, pool_of

RUNS = 150
CACHE, CONTEXT = "--kv-cache-memory-bytes", "--max-model-len"


class Starts:
    """The process that starts engines, and the folders of their models."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder
        self.seconds: list[float] = []

    def _ask(self, task: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the process that starts engines has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def place(self, config: dict[str, Any]) -> Place:
        """A checkpoint of that config, with random weights."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        answer = self._ask({"save": config, "folder": str(folder)})
        if "saved" not in answer:
            raise BenchError(f"{config.get('architectures')}: no checkpoint was made: {answer}")
        return Place(folder=folder, cache=self._folder / "cache")

    def start(self, plan: Plan, **instead: int | None) -> dict[str, Any]:
        """What the engine says to the plan's command; `cache` and `context` are other values for these options."""
        argv = list(plan.command.argv)
        argv = argv[argv.index("serve") + 1 :]
        for option, value in ((CACHE, instead.get("cache")), (CONTEXT, instead.get("context"))):
            if value is not None:
                argv[argv.index(option) + 1] = str(value)
        began = time.monotonic()
        answer = self._ask({"argv": argv, "env": dict(plan.command.env)})
        self.seconds.append(time.monotonic() - began)
        return answer


@contextmanager
def starts() -> Iterator[Starts]:
    """vLLM imported once, to be started many times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            metadata_of_the_cpu_build(folder)
        except importlib.metadata.PackageNotFoundError:
            raise BenchError(f"{CPU_DISTRIBUTION} is not installed; scripts/setup cpu installs it") from None
        environment = {**os.environ, "PYTHONPATH": name, "TMPDIR": name, "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                       "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}  # fmt: skip
        argv = [sys.executable, "-P", str(ROOT / "scripts/engine_starts.py")]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, env=environment) as process:  # fmt: skip
            if not process.stdout or "ready" not in process.stdout.readline():
                raise BenchError("vLLM could not be imported")
            yield Starts(process, folder)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case: what was planned, what the engine said to the plan or to its room (`answer`), and to one
    token more than the longest context (`beyond`).
    """

    case: Case
    accepted: bool
    predicted: Capacity
    answer: dict[str, Any]
    beyond: dict[str, Any] = field(default_factory=dict)
    context: int

    @property
    def unheard(self) -> str:
        """Why the engine ended, where that was not for want of memory."""
        return str(self.answer.get("error") or self.beyond.get("error") or "")

    @property
    def refused(self) -> bool:
        """A plan was made that the engine refuses, or in which its requests do not fit."""
        return self.accepted and not self.unheard and not holds(self.answer, self.case.concurrency)

    @property
    def overcautious(self) -> bool:
        """No plan was made of what would have run, or of a shorter context than would have."""
        tried = self.beyond if self.accepted else self.answer
        return not self.unheard and holds(tried, self.case.concurrency)

    @property
    def compared(self) -> bool:
        return "blocks" in self.answer

    @property
    def differs(self) -> bool:
        """The engine's figures are others than those predicted."""
        told = self.answer
        return self.compared and self.predicted != Capacity(
            blocks=told["blocks"], tokens=told["tokens"], concurrency=told["concurrency"]
        )

    @property
    def wrong(self) -> bool:
        return self.refused or self.overcautious or self.differs or bool(self.unheard)

    def __str__(self) -> str:
        words = [name for name in ("refused", "overcautious", "differs", "unheard") if getattr(self, name)]
        planned = f"{'accepted' if self.accepted else 'refused'} at {self.context:,} tokens, {self.predicted}"
        return f"{', '.join(words) or 'agrees'}: {self.case}; planned: {planned}; engine: {self.answer} {self.beyond}"


def holds(answer: dict[str, Any], requests: int) -> bool:
    """Whether so many requests of full length fit in what the engine says it has, its null block apart."""
    if not answer.get("blocks"):
        return False
    each = round(answer["blocks"] / answer["concurrency"])
    return bool(answer["blocks"] - 1 >= each * requests)


def outcome(case: Case, place: Place, engines: Starts) -> Outcome:
    """Plan the case, and start the engine with just that; where there is no plan, with what it would have had."""
    plan = place.in_room(case)
    pool, limit = pool_of(place, case.options)
    if isinstance(plan, Refusal):
        context = case.context or 1
        command = place.ample(context, case.concurrency, case.options)
        answer = engines.start(command, cache=case.room_bytes)
        return Outcome(case=case, accepted=False, context=context, answer=answer,
                       predicted=pool.capacity(case.room_bytes, context))  # fmt: skip
    assert plan.ledger is not None
    context = plan.ledger.context_tokens
    if case.kind == "roomy":
        return Outcome(case=case, accepted=True, context=context, answer=engines.start(plan, cache=case.room_bytes),
                       predicted=pool.capacity(case.room_bytes, context))  # fmt: skip
    more = case.kind == "longest" and context < limit
    return Outcome(
        case=case,
        accepted=True,
        context=context,
        answer=engines.start(plan),
        beyond=engines.start(plan, cache=case.room_bytes, context=context + 1) if more else {},
        predicted=plan.ledger.capacity,
    )


def run(numbers: Sequence[int], engines: Starts) -> Iterator[Outcome]:
    """The outcomes of the cases of these numbers."""
    configs = {model["name"]: lengthened(model["config"]) for model in json.loads(MODELS.read_text())
               if model["tiny"] and model["name"] not in NOT_ON_A_CPU}  # fmt: skip
    places = _Places(configs, engines)
    for done, number in enumerate(numbers, start=1):
        found = outcome(case := case_of(number, list(configs), places), places[case.model], engines)
        if found.wrong:
            say(f"matrix: {found}")
        if done % 10 == 0 or done == len(numbers):
            say(f"matrix: {done} of {len(numbers)} cases, {len(engines.seconds)} starts")
        yield found


class _Places(dict[str, Place]):
    """Each model's checkpoint, made when it is first asked for."""

    def __init__(self, configs: dict[str, dict[str, Any]], engines: Starts) -> None:
        super().__init__()
        self._configs, self._engines = configs, engines

    def __missing__(self, name: str) -> Place:
        self[name] = self._engines.place(self._configs[name])
        return self[name]


def bench_matrix(runs: int | None) -> list[Result]:
    """Plans near the edge of what fits, and the engine's own word on each."""
    with starts() as engines:
        return results(list(run(range(runs or RUNS), engines)), engines.seconds)


def results(found: Sequence[Outcome], seconds: Sequence[float]) -> list[Result]:
    """The numbers that the matrix is for."""
    accepted = [one for one in found if one.accepted and not one.unheard]
    compared = [one for one in found if one.compared]
    tried = [one for one in found if (one.beyond or not one.accepted) and not one.unheard]
    wrongly = sum(one.overcautious for one in tried)
    median = statistics.median(seconds)
    return [
        _count("plans that the engine refused for memory", 0, sum(one.refused for one in accepted), len(accepted)),
        _count("refusals of what the engine runs", 2, 100 * wrongly / max(1, len(tried)), len(tried), "%"),
        _count("KV caches of other blocks, tokens or concurrency than predicted", 0,
               sum(one.differs for one in compared), len(compared)),
        _count("engines that ended for another reason than memory", 0, sum(bool(one.unheard) for one in found),
               len(found)),
        Result(name="time of a start", value=median, unit="s", goal=None, runs=len(seconds),
               low=min(seconds), high=max(seconds)),
    ]  # fmt: skip


def _count(name: str, goal: float, value: float, runs: int, unit: str = "") -> Result:
    return Result(name=name, value=value, unit=unit, goal=goal, runs=runs, low=value, high=value)


def recorded_of(found: Sequence[Outcome], starts_made: int) -> dict[str, Any]:
    """What docs/memory.md shows of the matrix."""
    rows = []
    for name in sorted({one.case.model for one in found}):
        mine = [one for one in found if one.case.model == name]
        accepted = sum(one.accepted for one in mine)
        rows.append({"model": name, "accepted": accepted, "refused": len(mine) - accepted,
                     "beyond": sum(bool(one.beyond) for one in mine), "compared": sum(one.compared for one in mine),
                     "wrong": sum(one.wrong for one in mine)})  # fmt: skip
    return {
        "engine": f"{CPU_DISTRIBUTION} {importlib.metadata.version(CPU_DISTRIBUTION)}",
        "cases": len(found),
        "starts": starts_made,
        "at_the_edge": sum(one.case.kind != "roomy" for one in found),
        "results": [asdict(one) for one in results(found, [0.0])[:-1]],
        "rows": rows,
        "left_out": NOT_ON_A_CPU,
    }


def keep(kept: dict[str, Any]) -> None:
    """Keep it, and show it on the page."""
    STARTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    engine, rows = recorded()
    PAGE.write_text(page(rows, engine), encoding="utf-8")


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts.bench_matrix", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("numbers", metavar="NUMBER", nargs="*", type=int, help="these cases alone, in full")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how many cases (default: {RUNS})")
    parser.add_argument("--record", action="store_true", help=f"keep the matrix in {STARTS.relative_to(ROOT)}")
    options = parser.parse_args(words)
    with starts() as engines:
        found = []
        for one in run(options.numbers or range(options.runs), engines):
            found.append(one)
            if options.numbers:
                print(one)
    if options.record and not options.numbers:
        keep(recorded_of(found, len(engines.seconds)))
    for line in results(found, engines.seconds):
        print(f"{line.name}: {line.value:g} {line.unit} of {line.runs} ({line.verdict})")
    return 1 if any(one.wrong for one in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
