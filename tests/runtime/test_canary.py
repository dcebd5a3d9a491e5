"""canary.py: one token asked for, and what comes of it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from aim_engine.backends.counters import COPY_HEADER
from aim_engine.runtime import guard
from aim_engine.runtime.canary import HEADER, Canary
from aim_engine.runtime.contract import Contract, read_contract

from .server import fake_plan

SERVER = (7, 70)


class Engine(BaseHTTPRequestHandler):
    status = 200
    asked: list[tuple[dict[str, str], Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((dict(self.headers), body))
        self.send_response(type(self).status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def engine(status: int = 200) -> Iterator[tuple[int, list[tuple[dict[str, str], Any]]]]:
    Engine.status, Engine.asked = status, []
    with HTTPServer(("127.0.0.1", 0), Engine) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_port, Engine.asked
        finally:
            server.shutdown()
            thread.join()


def contract_for(folder: Path, port: int, **runtime: Any) -> Contract:
    plan = fake_plan(folder, **runtime)
    plan["command"]["urls"]["probe"] = f"http://127.0.0.1:{port}/v1/completions"
    return read_contract(plan)


def outcome(canary: Canary, seconds: float = 5) -> str:
    deadline = time.monotonic() + seconds
    while (found := canary.take()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


@pytest.mark.parametrize(
    ("status", "expected"), [(200, "answered"), (401, "refused"), (429, "refused"), (503, "refused"), (500, "refused")]
)
def test_what_comes_of_an_answer(tmp_path: Path, status: int, expected: str) -> None:
    with engine(status) as (port, asked):
        canary = Canary(contract_for(tmp_path, port), "s3cret", "f00d")
        canary.send(SERVER, 5.0)
        assert canary.since(SERVER) == 5.0
        assert outcome(canary) == expected
    assert canary.since(SERVER) is None
    assert canary.take() is None
    assert canary.as_json()[expected] == 1
    ((headers, body),) = asked
    assert (headers["Authorization"], headers[HEADER]) == ("Bearer s3cret", "f00d")
    assert COPY_HEADER not in headers
    assert body["max_tokens"] == 1


def test_a_copy_is_asked_by_its_number(tmp_path: Path) -> None:
    with engine() as (port, asked):
        canary = Canary(contract_for(tmp_path, port), None)
        canary.send(SERVER, 5.0, "3")
        assert canary.copy == "3"
        assert outcome(canary) == "answered"
    assert canary.copy == ""
    assert asked[0][0][COPY_HEADER] == "3"


def test_a_server_that_takes_the_connection_and_says_nothing_is_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        canary = Canary(contract_for(tmp_path, frozen.getsockname()[1], hang_timeout_seconds=0.4), None)
        canary.send(SERVER, 0.0)
        began = time.monotonic()
        assert outcome(canary) == "silent"
        assert 0.15 < time.monotonic() - began < 20


def test_a_server_that_is_gone_has_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    canary = Canary(contract_for(tmp_path, port), None)
    canary.send(SERVER, 0.0)
    assert outcome(canary) == "refused"


def test_what_another_server_was_asked_is_forgotten(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        canary = Canary(contract_for(tmp_path, frozen.getsockname()[1], hang_timeout_seconds=0.2), None)
        canary.send(SERVER, 0.0)
        assert canary.since((8, 80)) is None
        time.sleep(0.3)
        assert canary.take() is None
        assert canary.as_json()["silent"] == 0


def test_the_guard_knows_it_by_its_header() -> None:
    assert guard.CANARY_HEADER.decode() == HEADER.lower()
