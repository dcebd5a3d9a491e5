"""A supervisord that waits never outlives the planner that did not need it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_PLANNER = """
import os, sys, time
from aim_engine.runtime import handover
print(handover.begin().pid, flush=True)
{end}
"""


def run_planner(end: str, folder: Path) -> int:
    """Run a planner that ends in its own way, and return the pid of its spare."""
    out = folder / "out"
    with out.open("w") as file:
        subprocess.run([sys.executable, "-c", _PLANNER.format(end=end)], check=False, stdout=file, timeout=30)
    return int(out.read_text())


def is_gone(pid: int, *, within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_it_ends_when_the_planner_refuses(tmp_path: Path) -> None:
    assert is_gone(run_planner("sys.exit(30)", tmp_path), within_seconds=5)


def test_it_ends_when_the_planner_is_killed(tmp_path: Path) -> None:
    assert is_gone(run_planner("time.sleep(0.3); os.kill(os.getpid(), 9)", tmp_path), within_seconds=5)


def test_it_waits_while_the_planner_plans(tmp_path: Path) -> None:
    planner = subprocess.Popen(
        [sys.executable, "-c", _PLANNER.format(end="sys.stdin.read()")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert planner.stdout
    pid = int(planner.stdout.readline())
    time.sleep(0.5)
    os.kill(pid, 0)
    planner.communicate(b"", timeout=10)
    assert is_gone(pid, within_seconds=5)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_while_the_plan_is_being_made_is_answered_at_once(tmp_path: Path, signum: int) -> None:
    plan = tmp_path / "plan.json"
    os.mkfifo(plan)  # nobody writes into it: the planner waits for ever
    planner = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("serve_plan.py")), str(plan)], stderr=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{planner.pid}/task/{planner.pid}/children")
    deadline = time.monotonic() + 10
    while not (spare := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # from the fork to the read of the pipe
    planner.send_signal(signum)
    try:
        _, said = planner.communicate(timeout=5)
    finally:
        planner.kill()
    assert planner.returncode == 0
    assert json.loads(said.splitlines()[-1])["class"] == "Drained"
    assert is_gone(int(spare[0]), within_seconds=5)
