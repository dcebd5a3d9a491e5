"""deaths.py: a rest that ends when a process does, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aim_engine.runtime.deaths import Deaths
from aim_engine.runtime.members import children_of
from aim_engine.runtime.processes import Identity, look

PARENT = """import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)"""
LONG = 30.0


@pytest.fixture
def family() -> Iterator[tuple[Identity, int]]:
    """A server, and the process id of its only child."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        found = look(parent.pid)
        assert found
        yield found.identity, child
        parent.kill()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def rested(deaths: Deaths, server: Identity | None, seconds: float) -> float:
    began = time.monotonic()
    deaths.rest(server, seconds)
    return time.monotonic() - began


@pytest.mark.parametrize("which", ["server", "child"])
def test_an_end_ends_the_rest_and_is_told_once(family: tuple[Identity, int], which: str) -> None:
    server, child = family
    deaths = Deaths()
    assert [one.pid for one in children_of(server)] == [child]
    assert rested(deaths, server, 0.05) >= 0.05
    os.kill(server.pid if which == "server" else child, signal.SIGKILL)
    assert rested(deaths, server, LONG) < LONG / 2
    assert 0.05 < rested(deaths, server, LONG) < LONG / 2  # in a hurry, and not without a rest


def test_another_server_is_another_wait(family: tuple[Identity, int]) -> None:
    server, child = family
    deaths = Deaths()
    deaths.rest(server, 0)
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    deaths.rest(None, 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files - 2
    os.kill(child, signal.SIGKILL)
    assert rested(deaths, None, 0.2) >= 0.2


def test_a_server_that_is_gone_already_is_only_time() -> None:
    assert rested(Deaths(), Identity(2**22 - 1, 1), 0.1) >= 0.1
