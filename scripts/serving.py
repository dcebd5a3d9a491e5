"""A server as a child process: an argument list comes in, a running server goes out, and nothing is left of it at the
end. Knows nothing of what the server is asked; imports little, because scripts/bench.py counts its own memory too.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aim_engine.runtime.processes import Process, become_subreaper, descendants, die_with_parent, send

DRAIN_SECONDS = 90.0  # more than AIM_DRAIN_TIMEOUT's default, so that an orderly end is never cut short
GRACE_SECONDS = 2.0  # Python's resource tracker sees the end of its parents, cleans up after them and ends too


def start(argv: list[str], *, log: Path, env: Mapping[str, str] | None = None, outlives_us: bool = False) -> Server:
    """Start a server in a session of its own, so that a ^C reaches it through us and in order."""
    become_subreaper()  # what it may leave behind becomes our child, and so cannot be missed
    parent = os.getpid()
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
            # PLW1509: there are no threads yet
            preexec_fn=None if outlives_us else lambda: die_with_parent(parent, signal.SIGTERM),  # noqa: PLW1509
        )
    return Server(process, log)


class Server:
    """One server that `start` started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> int:
        """TERM, TERM again, then KILL; its exit status. A second ^C while this waits takes the next step at once."""
        for signum, seconds in ((signal.SIGTERM, DRAIN_SECONDS), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            if self.has_ended:
                break
            self.process.send_signal(signum)
            try:
                self.process.wait(seconds)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                continue
        return self.process.wait()

    def end_leftovers(self) -> list[str]:
        """End whatever the server left behind, and say what that was. Nothing, if it does its work."""
        deadline = time.monotonic() + GRACE_SECONDS
        while (left := _living_descendants()) and time.monotonic() < deadline:
            time.sleep(0.05)
        names = [f"{process.identity.pid} {_command(process.identity.pid)}" for process in left]
        for process in left:
            send(process.identity, signal.SIGKILL)
        return names

    def log_tail(self, lines: int) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def last_words(self) -> dict[str, Any]:
        """The JSON line `{class, code, message, hint}` with which `aim-engine serve` fails, or {}."""
        for line in reversed(self.log_tail(50).splitlines()):
            try:
                words = json.loads(line)
            except ValueError:
                continue
            if isinstance(words, dict) and "message" in words and "code" in words:
                return words
        return {}


def _living_descendants() -> list[Process]:
    return [process for process in descendants(os.getpid()) if process.state not in "ZX"]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100]
    except OSError:
        return "(gone)"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on at this moment, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def ask(port: int, path: str, body: Mapping[str, Any] | None = None, *, timeout: float = 5) -> tuple[int, Any]:
    """GET, or POST a JSON body; (status, JSON or text), (0, None) while nobody answers. Past any configured proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, text


def wait_until_gone(port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_open(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
