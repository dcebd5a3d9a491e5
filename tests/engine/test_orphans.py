"""The real vLLM on a bare host, its keepers killed one after the other: served again, or nothing left."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from aim_engine.runtime.processes import segments_of
from tests.engine.test_ends import alive, core
from tests.runtime.server import Server

pytestmark = pytest.mark.engine

Serve = Callable[..., Server]


def program(server: Server, name: str) -> int:
    """The pid of one of our own programs, 0 while there is none."""
    for pid in server.tree():
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(f"\0{name}\0".encode()):
                return pid
        except OSError:
            continue
    return 0


def test_keepers_come_back_and_a_killed_parent_takes_everything_with_it(serve: Serve) -> None:
    server = serve(max_retries=1, start_timeout_seconds=400.0)
    server.until_ready(400)
    engine = server.server_pid()
    for name in ("sidecar", "watch"):
        killed = program(server, name)
        os.kill(killed, signal.SIGKILL)
        server.until(lambda killed=killed, name=name: program(server, name) not in (0, killed), 30)  # type: ignore[misc]
    server.until_ready(60)
    assert server.server_pid() == engine
    assert len(server.status()["attempts"]) == 1
    # an engine process that hangs ends by no signal that asks; its server ends, and so does everything above it
    os.kill(core(server), signal.SIGSTOP)
    below = server.tree()
    ours = segments_of(below)
    server.signal(signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    server.until(lambda: not alive(below), 60)
    server.until(lambda: not any(Path(segment).exists() for segment in ours))
    for port in ("port", "health_port"):
        socket.create_server(("127.0.0.1", server.plan["runtime"][port])).close()
    server.until(lambda: server.read("last-words.json"), 5)
    assert not (server.state / "tmp").exists()
