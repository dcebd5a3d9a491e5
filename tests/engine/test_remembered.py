"""The real vLLM on a CPU, under `aim-engine serve`: its cache is the predicted one, the next plan is measured,
and the next start knows how long it takes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.processes import everyone
from tests.runtime.ports import free_ports
from tests.runtime.server import ROOT

pytestmark = pytest.mark.engine

MODEL, MAIN, OTHER = "acme/tiny", "a" * 40, "b" * 40


class Machine:
    """A cache folder with a model of the hub in it, in two revisions, and commands on them."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.cache = folder / "cache"
        home = folder / "hub" / "models--acme--tiny"
        (home / "refs").mkdir(parents=True)
        for name, commit in (("main", MAIN), ("other", OTHER)):
            shutil.copytree(model, home / "snapshots" / commit)
            (home / "refs" / name).write_text(commit)
        compiled = os.environ.get("VLLM_CACHE_ROOT") or str(Path("~/.cache/vllm").expanduser())
        self.environment = {**os.environ, "VLLM_CACHE_ROOT": compiled, "PYTHONPATH": str(ROOT),
                            "HF_HUB_CACHE": str(folder / "hub")}  # fmt: skip
        self.state, self.log = folder / "state", folder / "log"

    def words(self, command: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "aim_engine.cli.main", command, MODEL, "--offline", "--hardware", "cpu",
                "--cache-dir", str(self.cache), *more]  # fmt: skip

    def plan(self, *more: str) -> dict[str, Any]:
        done = subprocess.run(
            self.words("plan", "--json", *more), capture_output=True, text=True, check=True, env=self.environment
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def basis(self, *more: str) -> dict[str, str]:
        return {line["name"]: line["basis"] for line in self.plan(*more)["memory"]["lines"]}


@pytest.fixture(scope="module")
def machine(tiny_model: Path, whole_distribution: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Before any start."""
    return Machine(tmp_path_factory.mktemp("machine"), tiny_model)


@pytest.fixture(scope="module")
def first_plan(machine: Machine) -> dict[str, Any]:
    return machine.plan()


@pytest.fixture(scope="module")
def status(machine: Machine, first_plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """/status of a server that has become ready, which runs until the last test."""
    port, health_port = free_ports(2)
    words = machine.words("serve", "--host", "127.0.0.1", "--port", str(port), "--health-port", str(health_port),
                          "--state-dir", str(machine.state))  # fmt: skip
    with machine.log.open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=machine.environment)

    def actual() -> dict[str, Any] | None:
        assert process.poll() is None, machine.log.read_text()[-3000:]
        found = ask(f"http://127.0.0.1:{health_port}/status")
        return found if found.get("memory", {}).get("kv_cache", {}).get("actual") else None

    try:
        deadline = time.monotonic() + 180
        while not (found := actual()):
            assert time.monotonic() < deadline, machine.log.read_text()[-3000:]
            time.sleep(0.2)
        yield found
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()


def ask(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (urllib.error.URLError, OSError, ValueError):
        return {}


def test_before_the_first_start_everything_else_is_assumed(first_plan: dict[str, Any]) -> None:
    basis = {line["name"]: line["basis"] for line in first_plan["memory"]["lines"]}
    assert basis == {"weights": "exact", "kv cache": "exact", "activations": "assumed", "processes": "assumed"}


def test_the_engine_s_cache_is_exactly_the_predicted_one(first_plan: dict[str, Any], status: dict[str, Any]) -> None:
    kept = status["memory"]["kv_cache"]
    assert kept["predicted"] == first_plan["memory"]["capacity"]
    assert {name: kept["actual"][name] for name in kept["predicted"]} == kept["predicted"]
    assert kept["actual"]["tokens"] > 0
    row = next(row for row in status["memory"]["lines"] if row["name"] == "kv cache")
    assert row["actual_bytes"] == row["predicted_bytes"]


def test_its_processes_are_measured_and_within_what_was_assumed(status: dict[str, Any]) -> None:
    row = next(row for row in status["memory"]["lines"] if row["name"] == "processes")
    assert 600 * 1024**2 < row["actual_bytes"] < 3 * 1024**3
    assert status["memory"]["warnings"] == []


def test_the_second_plan_is_measured_and_says_so(machine: Machine, status: dict[str, Any]) -> None:
    plan = machine.plan()
    row = next(row for row in status["memory"]["lines"] if row["name"] == "processes")
    line = next(line for line in plan["memory"]["lines"] if line["name"] == "processes")
    assert line["basis"] == "measured"
    assert {line["bytes"], line["low_bytes"], line["high_bytes"]} == {row["actual_bytes"]}
    assert [note for note in plan["notes"] if note.startswith("as measured on this machine on ")]
    assert status["memory"]["kv_cache"]["actual"].items() >= plan["memory"]["capacity"].items()


@pytest.mark.parametrize("other", [["--precision", "fp16"], ["--engine-args", '{"max-num-batched-tokens": 512}']])
def test_other_terms_stay_assumed(machine: Machine, status: dict[str, Any], other: list[str]) -> None:
    assert machine.basis(*other)["processes"] == "assumed"


def test_a_longer_context_does_not_matter(machine: Machine, status: dict[str, Any]) -> None:
    assert machine.basis("--max-model-len", "512", "--concurrency", "3")["processes"] == "measured"


def test_another_revision_stays_assumed(machine: Machine, status: dict[str, Any]) -> None:
    assert machine.plan("--revision", "other")["revision"] == OTHER
    assert machine.basis("--revision", "other")["processes"] == "assumed"
    assert machine.basis("--revision", MAIN)["processes"] == "measured"


def test_another_host_and_another_cache_know_nothing(machine: Machine, status: dict[str, Any], tmp_path: Path) -> None:
    recorded = tmp_path / "inventory.json"
    detected = subprocess.run([sys.executable, "-m", "aim_engine.cli.main", "detect", "--hardware", "cpu", "--json"],
                              capture_output=True, text=True, check=True, env=machine.environment)  # fmt: skip
    recorded.write_text(detected.stdout)
    assert machine.basis("--hardware", str(recorded))["processes"] == "assumed"
    assert machine.basis("--cache-dir", str(tmp_path / "cache"))["processes"] == "assumed"


# --- how long a start takes


def test_the_start_came_through_its_phases_and_invented_no_time(machine: Machine, status: dict[str, Any]) -> None:
    start = status["start"]
    names = [step["phase"] for step in start["phases"]]
    assert names == sorted(names, key=("resolve", "load", "profile", "compile", "warm").index)
    assert {"resolve", "load", "warm"} <= set(names)
    assert (start["phase"], start["eta_seconds"]) == ("ready", 0)
    assert start["seconds"] == pytest.approx(sum(step["seconds"] for step in start["phases"]), abs=0.1)
    log = machine.log.read_text(errors="replace")
    told = [line.partition("start: ")[2] for line in log.splitlines() if " aim sidecar: start: " in line]
    assert told[0] == "resolve"  # and no time that is left
    assert "load" in told


def test_the_next_start_knows_how_long_it_has_left_and_stopped_it_is_ended(
    machine: Machine, status: dict[str, Any], tmp_path: Path
) -> None:
    """All of its processes are stopped as soon as it loads its weights, or a moment later."""
    wait_for(lambda: list((machine.cache / "starts").glob("*/v1/*.json")), 30)
    port, health_port = free_ports(2)
    words = machine.words("serve", "--host", "127.0.0.1", "--port", str(port), "--health-port", str(health_port),
                          "--state-dir", str(tmp_path / "state"), "--stall-timeout", "8", "--fallback=0")  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=machine.environment)

    def said() -> dict[str, Any]:
        assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
        return ask(f"http://127.0.0.1:{health_port}/status")

    def progress() -> dict[str, Any]:
        file = tmp_path / "state" / "progress.json"
        found: dict[str, Any] = json.loads(file.read_text()) if process.poll() is None and file.exists() else {}
        return found

    try:
        early = wait_for(lambda: found if (found := said()).get("reason", "").endswith(" left") else None)
        assert early["start"]["eta_basis"] == "the last start of the same on this machine"
        assert early["start"]["eta_seconds"] <= status["start"]["seconds"] + 1
        group = wait_for(lambda: found["pid"] if (found := progress()).get("phase") not in (None, "resolve") else None)
        for one in everyone().values():
            if one.group == group:
                os.kill(one.identity.pid, signal.SIGSTOP)
        stopped, phase = time.monotonic(), progress()["phase"]
        assert process.wait(60) == 52, (tmp_path / "log").read_text()[-3000:]
        assert 7 < time.monotonic() - stopped < 30
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
    last = json.loads((tmp_path / "log").read_text().strip().splitlines()[-1])
    assert last["class"] == "EngineStartTimeout"
    assert f"phase {phase} (" in last["message"]
    assert "AIM_STALL_TIMEOUT" in last["hint"]
    assert not [one for one in everyone().values() if one.group == group and one.state != "Z"]


def wait_for(condition: Callable[[], Any], seconds: float = 200) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found
