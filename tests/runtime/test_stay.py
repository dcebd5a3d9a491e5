"""stay.py: what fails before there is anything to supervise stays inspectable where AIM_KEEP_ALIVE asks for that."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .ports import free_ports
from .server import Server, fake_plan

Serve = Callable[..., Server]


def test_a_check_that_failed_stays_up_with_its_reason(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    server = serve(keep_alive=True, tls_files=[str(tmp_path / "cert.pem")] * 2)
    server.until(lambda: server.get("/health/ready")[0] == 503)
    assert server.get("/health/live")[0] == 200
    assert server.get("/health/startup")[0] == 503
    status = server.status()
    assert (status["phase"], status["attempts"]) == ("failed", [])
    assert "no certificate with its key" in status["reason"]
    assert "PEM" in status["hint"]
    assert json.loads(server.get("/plan")[1])["command"] == server.plan["command"]
    assert 'aim_engine_phase{phase="failed"} 1' in server.get("/metrics")[1]
    said = next(line for line in server.err.splitlines() if "staying up as AIM_KEEP_ALIVE asks" in line)
    assert "/status tells more; " in said
    assert status["hint"] in said
    server.until(lambda: not server.tree())  # the supervisord that waited is gone, and no zombie is left of it
    server.signal(signal.SIGTERM)
    assert server.wait(5) == 10
    assert server.words()["class"] == "Input"


def test_without_it_a_check_that_failed_ends_the_run(serve: Serve, tmp_path: Path) -> None:
    server = serve(tls_files=[str(tmp_path / "cert.pem")] * 2)
    assert server.wait() == 10


def test_where_the_health_port_itself_is_wrong_nothing_can_stay(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path, keep_alive=True)
    with socket.create_server(("127.0.0.1", plan["runtime"]["health_port"])):
        server = Server(plan, tmp_path)
        try:
            assert server.wait() == 10
        finally:
            server.stop()
    assert "AIM_HEALTH_PORT" in server.words()["message"]
    assert "cannot stay up" in server.err


def test_where_the_state_folder_is_in_use_nothing_can_stay(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    first.until_ready()
    (tmp_path / "other").mkdir()
    second = Server(fake_plan(tmp_path / "other", keep_alive=True, state_dir=str(first.state)), tmp_path / "other")
    try:
        assert second.wait() == 10
    finally:
        second.stop()
    assert "another server uses" in second.words()["message"]
    assert first.get("/health/ready")[0] == 200


# --- the command -------------------------------------------------------------------------------------------------

Command = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """Run `aim-engine serve` with variables of its own; the process and its health port."""
    started = []

    def run(**variables: str) -> tuple[subprocess.Popen[str], int]:
        port, health = free_ports(2)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIM_")},
            "AIM_KEEP_ALIVE": "1", "AIM_HARDWARE": "cpu", "AIM_HOST": "127.0.0.1", "AIM_PORT": str(port),
            "AIM_HEALTH_PORT": str(health), "AIM_STATE_DIR": str(tmp_path / "state"),
            "AIM_CACHE_DIR": str(tmp_path / "cache"), "AIM_OFFLINE": "1", **variables,
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "aim_engine.cli.main", "serve"], env=environment, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, health

    yield run
    for process in started:
        process.kill()
        process.communicate()


def reason(health: int) -> dict[str, Any]:
    """What /health/ready says, as soon as it says anything."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{health}/health/ready", timeout=2).close()
        except urllib.error.HTTPError as error:
            with error:
                found: dict[str, Any] = json.load(error)
            return found
        except OSError:
            time.sleep(0.02)
    raise AssertionError("the health port does not answer")


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"AIM_MODEL": "/nowhere/model"}, 40, "/nowhere/model"),
        ({}, 10, "no model was asked for"),
        ({"AIM_MODEL": "a/b", "AIM_PRECISION": "fp99"}, 10, "AIM_PRECISION"),
        ({"AIM_MODEL": "a/b", "AIM_ENGINE_ARGS": "{"}, 10, "AIM_ENGINE_ARGS"),
        ({"AIM_MODEL": "a/b", "AIM_BACKEND": "nope"}, 10, "nope"),
        ({"AIM_MODEL": "a/b", "AIM_PORT": "no port"}, 10, "AIM_PORT"),
    ],
)
def test_every_error_of_serve_stays_up(command: Command, variables: dict[str, str], code: int, said: str) -> None:
    process, health = command(**variables)
    found = reason(health)
    assert found["phase"] == "failed"
    assert said in found["reason"]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    words = json.loads(err.strip().splitlines()[-1])
    assert (process.returncode, words["code"]) == (code, code)
    assert said in words["message"]


def test_a_refusal_shows_every_candidate(command: Command) -> None:
    process, health = command(AIM_MODEL="Qwen/Qwen3-32B", AIM_HARDWARE="cpu", AIM_RECIPE="qwen3-32b-mi300x-bf16")
    reason(health)
    with urllib.request.urlopen(f"http://127.0.0.1:{health}/plan", timeout=2) as answer:
        plan = json.load(answer)
    assert plan["candidates"]
    assert plan["error"]["code"] in (20, 30)
    assert process.poll() is None


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"AIM_KEEP_ALIVE": "0"}, 10),
        ({"AIM_KEEP_ALIVE": "perhaps"}, 10),
        ({"AIM_HEALTH_PORT": "no port"}, 10),
        ({"AIM_STATE_DIR": "/proc/nowhere"}, 10),
    ],
)
def test_what_cannot_stay_ends(command: Command, variables: dict[str, str], code: int) -> None:
    process, _ = command(**variables)
    _, err = process.communicate(timeout=15)
    assert process.returncode == code
    assert json.loads(err.strip().splitlines()[-1])["code"] == code
