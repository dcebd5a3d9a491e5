"""Measure `aim-engine launch` by Docker's own clock: from its start to the container's creation and start, in turns
with a docker command that creates and starts the same container. Real containers, ended as soon as they were started.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from scripts.bench_container import IMAGE, LABEL, docker, why_no_engine
from scripts.bench_numbers import BenchError, Result, difference, in_turns, result
from scripts.bench_serve import MODEL, ROOT, make_model

GOAL_SECONDS = 0.8
_NANOSECONDS = 1e9
_EVENT_PATIENCE_SECONDS = 2.0  # a start's event may be written a moment after the answer

Moments = dict[str, float]  # seconds from the command's start, by what Docker says happened


def bench_launch(runs: int | None) -> list[Result]:
    """To the creation and to the start, beside docker create and docker start of the same container."""
    if reason := why_no_engine():
        raise BenchError(f"no Docker Engine answers ({reason}); see scripts/docker-engine")
    if subprocess.run([ROOT / "scripts" / "build", "--cpu", "--tag", IMAGE], check=False).returncode != 0:
        raise BenchError("scripts/build --cpu made no image")
    make_model()
    words = _words_of_docker()
    measures: dict[str, Callable[[], Moments]] = {"ours": _launch, "docker": partial(_create, words)}
    in_turns(measures, 1)  # warms the disk's cache
    samples = in_turns(measures, runs or 11)
    created = {name: [one["create"] for one in found] for name, found in samples.items()}
    started = {name: [one["start"] for one in found] for name, found in samples.items()}
    locked = [one["lock"] for one in samples["ours"]]
    alone = [one["create"] - one["lock"] for one in samples["ours"]]
    return [
        result("launch: start to Docker's create", "s", GOAL_SECONDS, created["ours"]),
        result("docker create of the same container", "s", None, created["docker"]),
        difference("launch: what it adds before the create", "s", None, created["ours"], created["docker"]),
        result("launch: of that until it holds the lock (imports, request, plan, the engine asked)", "s", None, locked),
        result("launch: of that under the lock (who holds what, the plan again)", "s", None, alone),
        result("launch: start to Docker's start", "s", None, started["ours"]),
        result("docker create and docker start", "s", None, started["docker"]),
    ]


def _argv(name: str, *more: str) -> list[str]:
    command = [sys.executable, "-m", "aim_engine.cli.main", "launch", str(MODEL), "--hardware", "cpu"]
    return [*command, "--image", IMAGE, "--host", "127.0.0.1", "--name", name, *more]


def _words_of_docker() -> list[str]:
    """What `docker create` needs for the container that a launch makes, but for its name."""
    done = subprocess.run(_argv("a-name", "--dry-run", "--json"), capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise BenchError(f"launch --dry-run ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    argv: list[str] = json.loads(done.stdout)["argv"]
    at = argv.index("--name")
    return [*argv[3:at], *argv[at + 2 :]]


def _launch() -> Moments:
    name = f"{LABEL}-{uuid.uuid4().hex[:8]}"
    return _moments(name, [_argv(name, "--detach")])


def _create(words: Sequence[str]) -> Moments:
    name = f"{LABEL}-{uuid.uuid4().hex[:8]}"
    return _moments(name, [["docker", "create", "--name", name, *words], ["docker", "start", name]])


def _moments(name: str, commands: Sequence[Sequence[str]]) -> Moments:
    """Run them, end the container, and ask Docker when it was created and started, and when the lock was."""
    began = time.time_ns()
    try:
        for argv in commands:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
            if done.returncode != 0:
                raise BenchError(f"{' '.join(argv[:4])} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return _told(name, began)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def _told(name: str, began: int) -> Moments:
    deadline = time.monotonic() + _EVENT_PATIENCE_SECONDS
    while not {"create", "start"} <= (found := _events(name, began)).keys():
        if time.monotonic() > deadline:
            raise BenchError(f"docker events says nothing of {name}")
    return found


def _events(name: str, began: int) -> Moments:
    span = ["--since", _stamp(began), "--until", _stamp(time.time_ns()), "--filter", "type=container"]
    found: Moments = {}
    for line in docker("events", *span, "--format", "{{json .}}").splitlines():
        event = json.loads(line)
        who = event["Actor"]["Attributes"].get("name")
        action = "lock" if who == "aim-engine-launch-lock" and event["Action"] == "create" else event["Action"]
        if who == name or action == "lock":
            found.setdefault(action, (event["timeNano"] - began) / _NANOSECONDS)
    return found


def _stamp(nanoseconds: int) -> str:
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
