"""members.py: what a server had below it when it was first looked at, and what of it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aim_engine.runtime.members import Members
from aim_engine.runtime.processes import Identity, identify

# Two children, one that comes and goes later, and at another word from us the end of the first.
SERVER = """
import subprocess, sys, time
sleep = [sys.executable, "-ISc", "import time; time.sleep(60)"]
first, second = subprocess.Popen(sleep), subprocess.Popen(sleep)
print("begun", flush=True)
sys.stdin.readline()
subprocess.Popen([sys.executable, "-ISc", ""]).wait()
print("later", flush=True)
sys.stdin.readline()
first.kill(), first.wait()
print("lost", flush=True)
sys.stdin.readline()
"""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-ISc", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, start_new_session=True)  # fmt: skip
    with process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def said(server: subprocess.Popen[str], *, word: str = "\n") -> str:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(word)
    server.stdin.flush()
    return server.stdout.readline().strip()


def test_a_child_that_was_there_and_ends_is_missed(server: subprocess.Popen[str]) -> None:
    assert said(server, word="") == "begun"
    identity = identify(server.pid)
    assert identity
    clock = Clock()
    members = Members(clock)
    assert members.missing_seconds(identity) == 0
    assert said(server) == "later"
    assert members.missing_seconds(identity) == 0, "what came and went later is not missed"
    assert said(server) == "lost"
    assert members.missing_seconds(identity) == 0, "from now on"
    clock.now += 1.5
    assert members.missing_seconds(identity) == 1.5
    other = Identity(identity.pid, identity.start_ticks + 1)
    assert members.missing_seconds(other) == 0, "another server, whose children are those that are there"
    clock.now += 1
    assert members.missing_seconds(other) == 0
