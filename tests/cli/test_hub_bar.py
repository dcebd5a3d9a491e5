"""How far the reading of a hub's model has come: nothing of what is quick, a bar on a terminal, else a line."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes.hub import Hub, Model, hub_here

pytest.importorskip("huggingface_hub")


def slow() -> Model:
    from tests.catalog.test_hub_reader import shards

    return Model(files=shards(40))


def test_a_slow_hub_is_a_line_where_there_is_no_terminal(process: Run, tmp_path: Path) -> None:
    with hub_here(good=slow(), quick=Model()) as hub:
        quick = process("plan", "org/quick", "--hardware", "cpu", HF_ENDPOINT=hub.address, HOME=str(tmp_path))
        assert (quick.code, quick.stderr) == (0, "")
        hub.seconds = 0.5
        done = process("plan", "org/good", "--hardware", "cpu", HF_ENDPOINT=hub.address, HOME=str(tmp_path))
    assert done.code == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "org/good" in line
    assert "hub" in line


def on_a_terminal(hub: Hub, home: Path) -> str:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "aim_engine.cli.main", "plan", "org/good", "--hardware", "cpu"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_ENDPOINT": hub.address, "TERM": "xterm"}
    with subprocess.Popen(argv, env=environment, cwd=home, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            said += piece
    os.close(ours)
    assert process.returncode == 0, said
    return said.decode()


def test_a_slow_hub_is_a_bar_on_a_terminal_and_leaves_nothing(tmp_path: Path) -> None:
    with hub_here(good=slow()) as hub:
        hub.seconds = 0.5
        said = on_a_terminal(hub, tmp_path)
    assert "#" in said
    assert "of 40 files" in said
    assert said.endswith("\r\x1b[K")
