"""Hung or busy, on the real vLLM: a long step is busy, and so is a client that does not read; an engine that is
stopped, while it has nothing to do and while it streams, is hung, found in time, told in evidence, and replaced.

One server, in this order: it is started twice in all.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.processes import descendants
from tests.runtime.server import Server

from .conftest import PlanFor

pytestmark = [pytest.mark.engine, pytest.mark.long]

KEY, TOKEN = "s3cret-of-this-test", "hf_token-of-this-test"
HANG_SECONDS, CANARY_SECONDS = 5.0, 3.0
LATEST_SECONDS = 10.0  # after the limit
# All of it in one step takes many seconds on two cores.
CONTEXT = 16384
LARGE = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4, "max_position_embeddings": CONTEXT}
ONE_STEP = ["--load-format", "dummy", "--hf-overrides", json.dumps(LARGE), "--max-model-len", str(CONTEXT),
            "--max-num-batched-tokens", str(CONTEXT)]  # fmt: skip


@pytest.fixture(scope="module")
def server(plan_for: PlanFor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hung")
    plan = plan_for(folder, *ONE_STEP, hang_timeout_seconds=HANG_SECONDS, canary_seconds=CANARY_SECONDS,
                    computes_on_host=True, max_retries=1)  # fmt: skip
    # what is compiled for a request's log probabilities is, before any of this is looked at
    plan["command"]["probe_body"] |= {"n": 2, "max_tokens": 3, "temperature": 1, "logprobs": 5}
    server = Server(plan, folder, {"AIM_API_KEY": KEY, "HF_TOKEN": TOKEN})
    try:
        server.until_ready(300)
        yield server
    finally:
        server.stop()
        print(server.out, server.err)  # what to read where a test of it fails


def send(server: Server, **more: Any) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", server.plan["runtime"]["port"], timeout=120)
    connection.request("POST", "/v1/completions", json.dumps({"model": "tiny", "ignore_eos": True, **more}),
                       {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})  # fmt: skip
    return connection


def answer(server: Server, **more: Any) -> int:
    connection = send(server, **more)
    try:
        found = connection.getresponse()
        found.read()
        return found.status
    finally:
        connection.close()


def core(server: Server) -> int:
    names = {p.identity.pid: Path(f"/proc/{p.identity.pid}/comm").read_text() for p in descendants(server.server_pid())}
    return next(pid for pid, name in names.items() if name.startswith("VLLM::EngineCor"))


def lives(server: Server) -> bool:
    return server.get("/health/live")[0] == 200


def evidence(server: Server) -> dict[str, str]:
    """The files of the newest bundle, which /status or the last words name."""
    attempts = server.read("attempts.json")["attempts"]
    path = Path(next(one["evidence"] for one in reversed(attempts) if one.get("evidence")))
    assert path.parent == Path(server.plan["runtime"]["cache_dir"]) / "evidence"
    return {file.name: file.read_text() for file in path.iterdir()}


def seconds_of_a_token(server: Server) -> float:
    """In a prompt of many, computed in one step."""
    some = CONTEXT // 8
    for token in (5, 6):  # the first one warms up
        began = time.monotonic()
        assert answer(server, prompt=[token] * some, max_tokens=1) == 200
        seconds = time.monotonic() - began
    print(f"{some} tokens took {seconds:.1f} s")
    return seconds / some


def one_step(server: Server, length: int, token: int) -> float:
    """For how long nothing moved while a prompt was computed; the engine was alive all the time."""
    outcome: list[int] = []
    asking = threading.Thread(target=lambda: outcome.append(answer(server, prompt=[token] * length, max_tokens=1)))
    asking.start()
    still = 0.0
    while asking.is_alive():
        status = server.status()
        still = max(still, status["work"]["still_seconds"])
        assert status["live"], status
        time.sleep(0.2)
    print(f"in one step of {length} tokens nothing moved for {still:.1f} s")
    assert outcome == [200]
    return still


def test_a_long_step_is_busy(server: Server) -> None:
    """Nothing that vLLM counts moves while it computes one step. One that takes a little longer than HANG_SECONDS will
    do: for five times that computing alone is believed, and a machine may be slower the next moment.
    """
    length = int(1.3 * HANG_SECONDS / seconds_of_a_token(server))
    for token in range(7, 20):  # another one each time: what was computed before is not computed again
        length = min(CONTEXT - 8, length)
        if one_step(server, length, token) > HANG_SECONDS:
            return
        assert length < CONTEXT - 8, "no step was long enough to show anything"
        length = int(1.5 * length)


def test_a_client_that_reads_nothing_is_no_hang(server: Server) -> None:
    """The engine has long done its part when the rest of the answer still waits in the server: more than the kernel
    takes for a connection that nobody reads (tcp(7), tcp_wmem: 4 MiB). vLLM merges what waits, but for log
    probabilities.
    """
    body = {"model": "tiny", "prompt": "Hello", "ignore_eos": True, "max_tokens": 1000, "n": 12, "stream": True,
            "temperature": 1, "logprobs": 5}  # fmt: skip
    text = json.dumps(body)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.plan["runtime"]["port"]))
        head = f"POST /v1/completions HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
        client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        server.until(lambda: work(server)[1] > 0, 60)
        server.until(lambda: work(server)[1] == 0, 240)
        until = time.monotonic() + 4 * HANG_SECONDS
        while time.monotonic() < until:
            assert lives(server), server.status()["reason"]
            time.sleep(0.2)
        assert work(server) == (1, 0)  # or this shows nothing
        client.settimeout(60)
        answered = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert answered.startswith(b"HTTP/1.1 200")
    assert b"data: [DONE]" in answered[-200:]
    assert len(server.read("attempts.json")["attempts"]) == 1


def work(server: Server) -> tuple[float, float]:
    """Requests that the server has open, and those that the engine has."""
    found = server.status()["work"]
    return found["open"], found["queue"]


def test_an_engine_that_is_stopped_while_idle_is_replaced(server: Server) -> None:
    server.until(lambda: server.status()["work"]["open"] == 0, 30)
    first, answered = server.server_pid(), server.status()["canary"]["answered"]
    server.until(lambda: server.status()["canary"]["answered"] > answered, 60)  # or one may be under way
    os.kill(core(server), signal.SIGSTOP)
    took = server.until(lambda: not lives(server), CANARY_SECONDS + HANG_SECONDS + LATEST_SECONDS)
    print(f"stopped while idle, hung after {took:.1f} s")
    assert "twice in a row it has not answered" in server.status()["reason"]
    server.until(lambda: server.server_pid() != first, 20)
    found = evidence(server)
    assert {"verdict.json", "counters.json", "plan.json", "gpus.json", "stacks.txt", "log-tail.txt"} == set(found)
    assert json.loads(found["verdict.json"])["class"] == "EngineHung"
    assert json.loads(found["counters.json"])[-1]["canaries_unanswered"] == 2
    assert "VLLM::EngineCor" in found["stacks.txt"]
    assert "State:\tT (stopped)" in found["stacks.txt"]
    assert not any(secret in text for text in found.values() for secret in (KEY, TOKEN))
    server.until_ready(300)
    assert server.status()["evidence"] == server.status()["attempts"][0]["evidence"]
    assert answer(server, prompt="Hello", max_tokens=3) == 200


def test_an_engine_that_is_stopped_while_it_streams_is_hung(server: Server) -> None:
    connection = send(server, prompt="Hello", max_tokens=10_000, stream=True)
    stream = connection.getresponse()
    for _ in range(20):
        stream.readline()
    os.kill(core(server), signal.SIGSTOP)
    took = server.until(lambda: not lives(server), HANG_SECONDS + LATEST_SECONDS)
    print(f"stopped while it streamed, hung after {took:.1f} s")
    assert server.wait(30) == 53
    connection.close()
    words = server.words()
    assert "1 request waits, and the engine has not advanced" in words["message"]
    assert Path(words["evidence"]).is_dir()
    assert not any(secret in server.out + server.err for secret in (KEY, TOKEN))
