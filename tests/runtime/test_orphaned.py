"""orphaned.py: on a bare host nobody ends what a killed parent leaves, but what is left of the run itself."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aim_engine.runtime.processes import look

from .conftest import Serve
from .server import Server

Run = Callable[..., tuple[Server, set[int]]]


@pytest.fixture
def run(serve: Serve) -> Iterator[Run]:
    """Start a run and wait until it is ready; whatever the test finds, its processes are ended, parent or not."""
    seen: set[int] = set()

    def start(*arguments: str) -> tuple[Server, set[int]]:
        server = serve(*arguments)
        server.until_ready()
        below = server.tree()
        seen.update(below)
        return server, below

    yield start
    for pid in alive(seen):
        os.kill(pid, signal.SIGKILL)


def alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if (found := look(pid)) is not None and found.state != "Z"]


def is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def gone(server: Server, below: set[int], segment: str, seconds: float) -> None:
    """Nothing is left of the run: no process, no port, no shared memory, no socket, no temporary folder."""
    server.until(lambda: not alive(below), seconds)
    runtime = server.plan["runtime"]
    server.until(lambda: not Path("/dev/shm", segment).exists() and is_free(runtime["port"]), 5)
    assert is_free(runtime["health_port"])
    server.until(lambda: server.read("last-words.json") and not (server.state / "tmp").exists(), 5)
    left = {path.name for path in server.state.iterdir()}
    assert not left & {"server.pid", "ready.json", "supervisor.sock", "supervisord.pid"}
    assert server.read("last-words.json")["class"] == "EngineCrashed"


def test_a_killed_parent_leaves_no_process_that_outlives_its_own(run: Run) -> None:
    """As an engine's own process that hangs: the server ends when supervisord asks it to, its child does not."""
    segment = f"psm_aim_{os.getpid()}_parent"
    server, below = run("--child", "--segment", segment)
    assert len(below) == 5
    server.signal(signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    gone(server, below, segment, 15)


def test_shared_memory_of_a_server_that_has_to_be_killed_is_known(run: Run) -> None:
    """supervisord kills a group with Python's tracker in it; the watch has had no time to look yet."""
    segment = f"psm_aim_{os.getpid()}_killed"
    server, below = run("--child", "--segment", segment, "--swallow", "9")
    (server.state / "segments.json").unlink(missing_ok=True)
    server.signal(signal.SIGKILL)
    server.wait()
    gone(server, below, segment, 25)


def test_the_parent_and_supervisord_killed_together(run: Run) -> None:
    segment = f"psm_aim_{os.getpid()}_both"
    server, below = run("--child", "--segment", segment, "--swallow", "9")
    daemon = int((server.state / "supervisord.pid").read_text())
    for pid in (server.process.pid, daemon):
        os.kill(pid, signal.SIGSTOP)  # or the second hears of the first one's end
    for pid in (server.process.pid, daemon):
        os.kill(pid, signal.SIGKILL)
    server.wait()
    gone(server, below, segment, 15)


def test_another_run_in_the_same_place_keeps_its_files(run: Run) -> None:
    """The folder's lock goes with the parent: another run may have it before the first one's rest has ended."""
    server, below = run("--child")
    (server.state / "tmp").mkdir(exist_ok=True)
    with (server.state / "lock").open() as lock:
        server.signal(signal.SIGKILL)
        server.wait()
        server.until(lambda: _take(lock.fileno()), 2)
        server.until(lambda: not alive(below), 15)
        assert (server.state / "tmp").exists()
        assert server.read("last-words.json") is None


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
