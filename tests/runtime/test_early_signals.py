"""Signals that come before anybody can answer them: held by `env --block-signal`, answered by the planner, and held
from no process that comes later.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aim_engine.runtime.signals import STOPPING

from .server import ROOT, SERVE_PLAN, Server, fake_plan

HOLD = ["env", "--block-signal=TERM,INT,HUP,QUIT"]

pytestmark = pytest.mark.skipif(
    subprocess.run([*HOLD, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs an env that can block signals",
)


def held(status: str) -> set[int]:
    """Those of the signals that ask to stop which a process holds, from its /proc/PID/status."""
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:"))
    return {int(signum) for signum in STOPPING if mask >> (signum - 1) & 1}


def test_a_signal_from_before_the_first_line_of_python_stops_the_planning(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    os.mkfifo(plan)  # nobody writes into it: the planner waits for ever
    planner = subprocess.Popen([*HOLD, sys.executable, str(SERVE_PLAN), str(plan)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 5
    while not held(Path(f"/proc/{planner.pid}/status").read_text()) and time.monotonic() < deadline:
        time.sleep(0.001)
    planner.send_signal(signal.SIGTERM)
    try:
        _, said = planner.communicate(timeout=10)
    finally:
        planner.kill()
        planner.communicate()
    assert planner.returncode == 0
    assert json.loads(said.splitlines()[-1])["class"] == "Drained"


def test_no_process_of_the_run_holds_signals_for_it(tmp_path: Path) -> None:
    server = Server(fake_plan(tmp_path, "--child"), tmp_path, prefix=HOLD)
    try:
        server.until_ready()
        others = [Path(f"/proc/{pid}/status").read_text() for pid in server.tree()]
        assert len(others) == 5  # supervisord, watch, sidecar, the engine and its child
        assert [held(status) for status in others] == [set()] * 5
    finally:
        server.stop()


def through_the_entry_point(folder: Path, *words: str, path: str = os.environ["PATH"]) -> str:
    """What an aim-engine that shows its arguments and its mask says."""
    command, script = folder / "aim-engine", folder / "entrypoint"
    # no shell: dash holds nothing for long
    show = "import sys; print(*sys.argv[1:]); print(open('/proc/self/status').read())"
    command.write_text(f"#!{sys.executable} -IS\n{show}\n")
    command.chmod(0o755)
    script.write_text((ROOT / "entrypoint").read_text().replace("/opt/aim-engine/venv/bin/aim-engine", str(command)))
    return subprocess.run(["sh", script, *words], capture_output=True, text=True, check=True, env={"PATH": path}).stdout


@pytest.mark.parametrize(
    ("words", "arguments"), [((), "serve"), (("serve", "a b"), "serve a b"), (("--port", "9"), "serve --port 9")]
)
def test_the_entry_point_holds_signals_for_serve(tmp_path: Path, words: tuple[str, ...], arguments: str) -> None:
    said = through_the_entry_point(tmp_path, *words)
    assert said.splitlines()[0] == arguments
    assert held(said) == {int(one) for one in STOPPING}


def test_for_other_commands_it_holds_none(tmp_path: Path) -> None:
    assert held(through_the_entry_point(tmp_path, "plan", "a/b")) == set()
    assert held(through_the_entry_point(tmp_path, "cat", "/proc/self/status")) == set()


def test_an_env_that_cannot_hold_signals_is_done_without(tmp_path: Path) -> None:
    """busybox has such a one, and coreutils before 8.31."""
    (tmp_path / "env").write_text("#!/bin/sh\necho \"env: unrecognized option '$1'\" >&2\nexit 1\n")
    (tmp_path / "env").chmod(0o755)
    said = through_the_entry_point(tmp_path, "serve", path=f"{tmp_path}:{os.environ['PATH']}")
    assert said.splitlines()[0] == "serve"
    assert held(said) == set()


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False).returncode
    != 0,
    reason="needs a PID namespace of its own",
)
@pytest.mark.parametrize("after", [0.01, 0.02, 0.04, 0.08])
def test_pid_1_is_stopped_while_python_starts(tmp_path: Path, after: float) -> None:
    prefix = ["unshare", "--pid", "--fork", "--mount-proc", *HOLD]
    server = Server(fake_plan(tmp_path, "--delay", "30"), tmp_path, prefix=prefix)
    try:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        server.until(children.read_text)
        first = int(children.read_text())
        server.until(lambda: held(Path(f"/proc/{first}/status").read_text()))
        time.sleep(after)
        asked = time.monotonic()
        os.kill(first, signal.SIGTERM)
        assert server.wait(8) == 0
        assert time.monotonic() - asked < 5
        assert server.words()["class"] == "Drained"
    finally:
        server.stop()
