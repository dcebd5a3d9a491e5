"""Several copies of a model in one server of the real vLLM: one that stands still is found while the other serves."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from aim_engine.backends.counters import read_copies
from aim_engine.runtime.processes import descendants
from tests.faults.fault import assert_ended
from tests.faults.table import fault as row
from tests.runtime.server import Server

pytestmark = [pytest.mark.engine, pytest.mark.long]

Serve = Callable[..., Server]
HANG_SECONDS = 6.0
COMPUTING_TIMES = 5  # beside a copy that computes on the same host


def cores(server: Server) -> list[int]:
    """The engines' own processes, by their numbers."""
    names = {p.identity.pid: Path(f"/proc/{p.identity.pid}/comm").read_text() for p in descendants(server.server_pid())}
    return [pid for pid, name in sorted(names.items()) if name.startswith("VLLM::EngineCor")]


def ask(server: Server, tokens: int) -> None:
    """A stream that is read to its end, whatever that is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.plan["runtime"]["port"], timeout=120)
    body = {"model": "tiny", "prompt": "Hello", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    with suppress(OSError, http.client.HTTPException):
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        connection.getresponse().read()
    connection.close()


def ask_on(server: Server, enough: threading.Event) -> None:
    while not enough.wait(0.05):
        ask(server, 200)


def answered(server: Server) -> int:
    return int(json.loads(server.get("/status")[1])["canary"]["answered"])


def both_work(server: Server) -> bool:
    copies = read_copies(server.get("/metrics", engine=True)[1])
    return len(copies) == 2 and all(one.get("running", 0) > 0 for one in copies.values())


def test_a_copy_that_stands_still_while_the_other_serves(serve: Serve) -> None:
    server = serve(
        "--data-parallel-size", "2", "--api-server-count", "1", hang_timeout_seconds=HANG_SECONDS, computes_on_host=True
    )
    server.until_ready(180)
    asking: list[threading.Thread] = []

    def one_more(tokens: int) -> None:
        asking.append(threading.Thread(target=ask, args=(server, tokens)))
        asking[-1].start()

    for _ in range(4):
        one_more(1000)
    server.until(lambda: both_work(server), 30)
    os.kill(cores(server)[1], signal.SIGSTOP)
    deadline = time.monotonic() + HANG_SECONDS + 30
    while server.process.poll() is None and time.monotonic() < deadline:  # so that the other copy has always moved
        one_more(20)
        time.sleep(0.2)
    assert_ended(row("copy-stopped-streaming"), server.wait(20), server.words())
    assert re.search(r"copy [01] of the engine has not advanced for \d+ s", server.words()["message"]), server.words()
    for thread in asking:
        thread.join(130)


def test_a_copy_that_was_stopped_while_idle_is_found_when_work_comes(serve: Serve) -> None:
    """It tells of none of the work that it is given."""
    server = serve(
        "--data-parallel-size", "2", "--api-server-count", "1", hang_timeout_seconds=HANG_SECONDS,
        computes_on_host=True, canary_seconds=3.0,
    )  # fmt: skip
    server.until_ready(180)
    server.until(lambda: answered(server) >= 4, 40)  # both are asked, in turn, and are well
    assert server.get("/health/live")[0] == 200
    os.kill(cores(server)[1], signal.SIGSTOP)
    enough = threading.Event()
    asking = [threading.Thread(target=ask_on, args=(server, enough)) for _ in range(4)]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + HANG_SECONDS * COMPUTING_TIMES + 15
    while server.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    enough.set()
    assert_ended(row("copy-stopped-idle"), server.wait(20), server.words())
    for thread in asking:
        thread.join(130)
