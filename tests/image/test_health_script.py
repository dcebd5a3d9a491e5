"""The image's HEALTHCHECK as a script: it finds the server that runs, whatever flags, variables or Kubernetes say.
Needs no Docker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts.image_health import address

SCRIPT = Path(__file__).parents[2] / "scripts" / "image_health.py"
LINK = {"AIM_HEALTH_PORT": "tcp://10.0.0.1:8080", "AIM_HEALTH_PORT_8080_TCP": "tcp://10.0.0.1:8080"}


def serving(tmp_path: Path, pid: int = 1, *, host: str = "0.0.0.0", port: Any = 9090, plan: str | None = None) -> str:
    """A /proc in which the server's parent is that process, and its state folder."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "plan.json").write_text(plan or json.dumps({"runtime": {"host": host, "health_port": port}}))
    proc = tmp_path / "proc"
    others = {1: "/sbin/docker-init\0--\0entrypoint\0", 7: "sh\0-c\0boot\0"}
    others[pid] = f"python\0-I\0-S\0/opt/src/aim_engine/runtime/__main__.py\0boot\0{state}\0003\0"
    for number, words in others.items():
        (proc / str(number)).mkdir(parents=True)
        (proc / str(number) / "cmdline").write_text(words)
    (proc / "self").mkdir()
    return str(proc)


@pytest.mark.parametrize("pid", [1, 12])  # 12: docker run --init
@pytest.mark.parametrize("environment", [{}, {"AIM_HEALTH_PORT": "8081", "AIM_HOST": "192.0.2.1"}, LINK])
def test_the_running_server_s_own_port_counts(tmp_path: Path, pid: int, environment: dict[str, str]) -> None:
    assert address(serving(tmp_path, pid), environment) == ("127.0.0.1", 9090)


@pytest.mark.parametrize(
    ("host", "asked"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.7", "192.0.2.7"), ("", "127.0.0.1")]
)
def test_the_address_that_it_listens_on(tmp_path: Path, host: str, asked: str) -> None:
    assert address(serving(tmp_path, host=host), {}) == (asked, 9090)


@pytest.mark.parametrize(
    ("environment", "port"),
    [({}, 8080), ({"AIM_HEALTH_PORT": "9091"}, 9091), (LINK, 8080), ({"AIM_HEALTH_PORT": "0"}, 8080),
     ({"AIM_HEALTH_PORT": "99999"}, 8080), ({"AIM_HEALTH_PORT": "²"}, 8080)],
)  # fmt: skip
def test_before_there_is_a_server_the_variable_counts(tmp_path: Path, environment: dict[str, str], port: int) -> None:
    assert address(str(tmp_path / "nothing"), environment) == ("127.0.0.1", port)


@pytest.mark.parametrize("plan", ["", "{", "[]", '{"runtime": 3}', '{"runtime": {"health_port": "x"}}', "\x00"])
def test_a_damaged_plan_is_passed_over(tmp_path: Path, plan: str) -> None:
    proc = serving(tmp_path, plan=plan or " ")
    assert address(proc, {"AIM_HEALTH_PORT": "9091"}) == ("127.0.0.1", 9091)


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-I", "-S", str(SCRIPT), "/proc/none"]  # servers of others may run on this machine
    return subprocess.run(words, env=environment, capture_output=True, text=True,
                          timeout=20, check=False)  # fmt: skip


class Sidecar(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health/live" else 200)
        self.end_headers()
        self.wfile.write(b'{"phase": "x"}')

    def log_message(self, *words: Any) -> None:
        """Quiet."""


@pytest.fixture
def sidecar() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisSidecar", (Sidecar,), {}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_healthy_and_not(sidecar: ThreadingHTTPServer) -> None:
    port = str(sidecar.server_port)
    assert run(AIM_HEALTH_PORT=port).returncode == 0
    sidecar.RequestHandlerClass.status = 503  # type: ignore[attr-defined]
    done = run(AIM_HEALTH_PORT=port)
    assert (done.returncode, done.stdout, done.stderr) == (1, '{"phase": "x"}\n', "")


@pytest.mark.parametrize(
    "environment", [LINK, {"AIM_HEALTH_PORT": "9"}, {"AIM_HOST": "no such host"}, {"AIM_HOST": "\udcff"}]
)
def test_never_a_traceback(environment: dict[str, str]) -> None:
    done = run(**environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("the health sidecar on ")


def test_it_costs_next_to_nothing(sidecar: ThreadingHTTPServer) -> None:
    """Beyond Python's own start; the best of several, because others work on this machine too."""

    def best(*words: str) -> float:
        times = []
        for _ in range(7):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-I", "-S", *words], check=True,
                           env={"AIM_HEALTH_PORT": str(sidecar.server_port), "PATH": os.environ["PATH"]})  # fmt: skip
            times.append(time.perf_counter() - began)
        return min(times)

    assert best(str(SCRIPT), "/proc/none") - best("-c", "") < 0.06
