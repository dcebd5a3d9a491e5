"""More load than a server can do, with long prompts, for long: it is busy all the time, and must never be called
anything else. Counts every answer of the health routes, and every verdict that the timeline holds.
"""

from __future__ import annotations

import json
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from scripts import serving
from scripts.bench_drain import until
from scripts.bench_numbers import BenchError, Result, say
from scripts.bench_serve import MODEL, Run, make_model, serving_tiny
from scripts.long_model import CONTEXT, long_prompt, longer
from scripts.streams import Stream

MINUTES = 30.0
CLIENTS = 12
HANG_SECONDS = 30  # a quarter of the default: what is not called hung here is not there either
LOOK_SECONDS, TELL_SECONDS = 0.25, 30.0
READY_SECONDS, PATIENCE_SECONDS = 300.0, 120.0


@dataclass
class Seen:
    """What was counted, by everybody at once."""

    answers: Counter[str] = field(default_factory=Counter)  # of the health routes, as `live 200`
    requests: Counter[str] = field(default_factory=Counter)  # what became of them
    prompt_tokens: int = 0
    slowest_seconds: float = 0.0  # of the health routes
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


def bench_steady(minutes: float) -> list[Result]:
    """Twelve clients, most of them with prompts of thousands of tokens, none of which was seen before."""
    make_model()
    with tempfile.TemporaryDirectory(prefix="aim-bench-") as folder:
        model = longer(MODEL, Path(folder))
        words = ("--max-model-len", str(CONTEXT), "--hang-timeout", str(HANG_SECONDS))
        with serving_tiny(*words, model=model) as run:
            until(run, lambda: serving.ask(run.health_port, "/health/ready")[0] == 200, READY_SECONDS, "ready")
            seconds = 60 * minutes
            seen = _load(run, seconds)
            return rows(seen, seconds, verdicts(run.state))


def rows(seen: Seen, seconds: float, judged: list[str]) -> list[Result]:
    looked = sum(seen.answers.values())
    wrong = sum(count for answer, count in seen.answers.items() if not answer.endswith(" 200"))
    asked = sum(seen.requests.values())
    if not seen.requests["finished"]:
        raise BenchError("not one request was answered: this was no load")
    return [
        _one(f"steady: false verdicts in {seconds / 60:g} minutes of load", len(judged), 0),
        _one(f"steady: of {looked} answers of live and ready, other than 200", wrong, 0),
        _one("steady: the slowest of them", seen.slowest_seconds, 5, "s"),
        _one(f"steady: of {asked} requests, not answered whole", asked - seen.requests["finished"], 0),
        _one("steady: tokens of prompts per second", seen.prompt_tokens / seconds, None, "/s"),
    ]


def _one(name: str, value: float, goal: float | None, unit: str = "") -> Result:
    return Result(name=name, value=value, unit=unit, goal=goal, runs=1, low=value, high=value)


def verdicts(state: Path) -> list[str]:
    """Every phase after the first time that it was ready, and every failed attempt."""
    lines = (state / "timeline.jsonl").read_text(encoding="utf-8").splitlines()
    phases = [entry["phase"] for entry in map(json.loads, lines) if "phase" in entry]
    attempts = json.loads((state / "attempts.json").read_text(encoding="utf-8"))["attempts"]
    return phases[phases.index("ready") + 1 :] + [one["failure"]["class"] for one in attempts if one["failure"]]


def _load(run: Run, seconds: float) -> Seen:
    seen, ends = Seen(), time.monotonic() + seconds
    threads = [threading.Thread(target=_look, args=(run, seen), daemon=True)]
    threads += [threading.Thread(target=_ask, args=(run, seen, number), daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    tell = time.monotonic()
    while (now := time.monotonic()) < ends and not run.server.has_ended:
        if now >= tell:
            tell = now + TELL_SECONDS
            say(f"steady: {(ends - now) / 60:.1f} minutes left; {_said(seen.requests)}; {_said(seen.answers)}")
        time.sleep(0.2)
    seen.over.set()
    for thread in threads[1:]:
        thread.join(PATIENCE_SECONDS)
    threads[0].join(10)
    return seen


def _said(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "nothing yet"


def _look(run: Run, seen: Seen) -> None:
    """As a kubelet does, only much more often."""
    while not seen.over.wait(LOOK_SECONDS):
        for route in ("live", "ready"):
            began = time.monotonic()
            status, _ = serving.ask(run.health_port, f"/health/{route}", timeout=30)
            seen.slowest_seconds = max(seen.slowest_seconds, time.monotonic() - began)
            seen.answers[f"{route} {status}"] += 1


def _ask(run: Run, seen: Seen, number: int) -> None:
    """One request after the other: of three clients one streams long answers, the others have long prompts."""
    while not seen.over.is_set():
        prompt = long_prompt(50 if number % 3 == 0 else random.randrange(4000, CONTEXT - 4000))
        stream = Stream(("127.0.0.1", run.port), prompt, 2000 if number % 3 == 0 else 16)
        stream.run()
        with seen.lock:
            seen.prompt_tokens += len(prompt)
            seen.requests[stream.became] += 1
        if stream.became == "unheard":
            time.sleep(1)
