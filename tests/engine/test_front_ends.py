"""Several front ends of one server of the real vLLM: all of them drain, and one that stands still is found."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aim_engine.runtime.front_end import FrontEnd, living, read_front_ends
from tests.faults.fault import assert_ended
from tests.faults.table import fault as row
from tests.runtime.server import Server

pytestmark = [pytest.mark.engine, pytest.mark.long]

Serve = Callable[..., Server]
HANG_SECONDS = 8.0
TOKENS = 400


def front_ends(server: Server) -> list[FrontEnd]:
    return living(read_front_ends(str(server.state / "tmp")))


def ask(server: Server) -> tuple[int, int]:
    """Status and tokens of a stream; (0, 0) where nothing came."""
    connection = http.client.HTTPConnection("127.0.0.1", server.plan["runtime"]["port"], timeout=120)
    body = {"model": "tiny", "prompt": "Hello", "max_tokens": TOKENS, "stream": True, "ignore_eos": True,
            "stream_options": {"include_usage": True}}  # fmt: skip
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        lines = answer.read().decode().splitlines()
    except (OSError, http.client.HTTPException):
        return 0, 0
    finally:
        connection.close()
    events: list[dict[str, Any]] = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    usage: dict[str, Any] = next((event["usage"] for event in events if event.get("usage")), {})
    return answer.status, int(usage.get("completion_tokens", 0))


def asking(server: Server, times: int, got: list[tuple[int, int]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=lambda: got.append(ask(server))) for _ in range(times)]
    for thread in threads:
        thread.start()
    return threads


def test_a_stop_lets_what_every_front_end_has_open_end(serve: Serve) -> None:
    """vLLM makes as many as there are copies, and on SIGTERM each of them drops what it has open at once."""
    server = serve("--data-parallel-size", "2", drain_timeout_seconds=60.0)
    server.until_ready(240)
    assert len(front_ends(server)) == 2
    early: list[tuple[int, int]] = []
    late: list[tuple[int, int]] = []
    threads = asking(server, 8, early)
    server.until(lambda: [one.told.working for one in front_ends(server)] in WAYS_TO_SHARE, 20)
    server.signal(signal.SIGTERM)
    server.until(lambda: all(one.told.stopping for one in front_ends(server)), 5)
    threads += asking(server, 6, late)
    code = server.wait(90)
    for thread in threads:
        thread.join(130)
    assert early == [(200, TOKENS)] * 8
    assert [status for status, _ in late] == [503] * 6
    assert_ended(row("term-two-front-ends"), code, server.words())
    assert server.words()["receipt"] == {"finished": 8, "refused": 6, "cut": 0}


WAYS_TO_SHARE = [[n, 8 - n] for n in range(1, 8)]


def test_a_front_end_that_stands_still_is_found_while_the_other_answers(serve: Serve) -> None:
    server = serve("--api-server-count", "2", hang_timeout_seconds=HANG_SECONDS, computes_on_host=True)
    server.until_ready(240)
    server.until(lambda: len(front_ends(server)) == 2, 5)
    os.kill(front_ends(server)[0].pid, signal.SIGSTOP)
    seconds = server.until(lambda: server.process.poll() is not None or server.get("/health/live")[0] == 503, 40)
    assert seconds <= HANG_SECONDS + 10
    assert_ended(row("front-end-stopped"), server.wait(30), server.words())
