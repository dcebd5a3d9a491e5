"""Somebody removes the state folder of a server that runs: it goes on, and a stop lets its requests finish."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable

from .server import Server

Serve = Callable[..., Server]


def test_a_server_goes_on_and_lets_requests_finish(serve: Serve) -> None:
    """Without ready.json it looks as if it had never been ready; it has run for longer than a start may take."""
    server = serve(start_timeout_seconds=4.0)
    server.until_ready()
    pid = server.server_pid()
    time.sleep(max(0.0, 4.5 - (time.monotonic() - server.started)))
    for _ in range(5):  # whoever looks first after each, the watch or the sidecar
        shutil.rmtree(server.state)
        server.until(lambda: server.server_pid() == pid, 5)
        assert [server.get(path)[0] for path in ("/health/ready", "/status", "/plan", "/metrics")] == [200] * 4
    (server.state / "server.pid").write_text("garbage")
    server.until(lambda: (server.state / "server.pid").read_text().startswith(f"{pid} "), 5)
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(server.get("/slow?seconds=3", engine=True, seconds=20)))
    asking.start()
    server.until(lambda: "num_requests_running 1" in server.get("/metrics", engine=True)[1])
    server.signal(signal.SIGTERM)
    assert server.wait(20) == 0
    asking.join()
    assert answers == [(200, "finished")]
    assert server.words()["class"] == "Drained"
