"""How runs of the real vLLM end: stopped at any moment, killed in parts, refused what a plan would not have asked for.

What `aim-engine serve` makes of what is wrong is in test_faults_at_start.py.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aim_engine.runtime.processes import descendants, everyone, look, segments_of
from tests.faults.fault import assert_ended, assert_serves_again
from tests.faults.table import fault as row
from tests.runtime.server import Server

pytestmark = pytest.mark.engine

Serve = Callable[..., Server]


def alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if (found := look(pid)) is not None and found.state != "Z"]


def segments() -> set[str]:
    """Shared memory that nobody maps: what killed processes left."""
    there = {str(path) for path in Path("/dev/shm").iterdir() if path.name.startswith(("psm_", "sem.mp-"))}
    return there - segments_of(everyone())


def core(server: Server) -> int:
    """The engine's own process, a child of the API server."""
    names = {p.identity.pid: Path(f"/proc/{p.identity.pid}/comm").read_text() for p in descendants(server.server_pid())}
    return next(pid for pid, name in names.items() if name.startswith("VLLM::EngineCor"))


def stream(server: Server, tokens: int, chunks: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.plan["runtime"]["port"], timeout=60)
    body = {"model": "tiny", "prompt": "Hello", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    while line := answer.readline():
        if line.startswith(b"data: "):
            chunks.append(line[6:].decode().strip())
    connection.close()


def test_parts_that_are_killed(serve: Serve) -> None:
    """The engine process dies: the API server then exits with 0, which is a failure all the same."""
    before = segments()
    server = serve(max_retries=1)
    server.until_ready(120)
    first = server.server_pid()
    os.kill(core(server), signal.SIGKILL)
    server.until(lambda: server.get("/health/ready")[0] == 503, 3)
    server.until(lambda: server.server_pid() != first, 15)
    server.until_ready(120)
    assert_serves_again(row("core-killed-idle"), server.status()["attempts"])
    below = server.tree()
    os.kill(server.server_pid(), signal.SIGKILL)
    assert_ended(row("server-killed-idle"), server.wait(), server.words())
    assert not alive(below)
    server.until(lambda: segments() <= before)  # other programs have some for a moment


@pytest.mark.parametrize("after", [1.0, 5.0, 9.0])
def test_a_stop_while_it_starts(serve: Serve, after: float) -> None:
    before = segments()
    server = serve()
    time.sleep(after)
    below = server.tree()
    asked = time.monotonic()
    server.signal(signal.SIGTERM)
    assert_ended(row("term-loading"), server.wait(20), server.words())
    assert time.monotonic() - asked < 10
    assert not alive(below)
    server.until(lambda: segments() <= before)  # other programs have some for a moment


def phase(server: Server) -> str:
    return str((server.status().get("start") or {}).get("phase", ""))


def test_a_stop_while_it_compiles(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "compiled"))  # what is there already is not compiled again
    server = serve("--no-enforce-eager")
    server.until(lambda: phase(server) == "compile", 120)
    below = server.tree()
    server.signal(signal.SIGTERM)
    assert_ended(row("term-compiling"), server.wait(20), server.words())
    assert not alive(below)


def test_a_stop_while_its_first_answer_is_waited_for(serve: Serve) -> None:
    server = serve()
    server.until(lambda: server.read("progress.json"), 60)
    sidecar = next(pid for pid in server.tree() if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"sidecar\0"))
    os.kill(sidecar, signal.SIGSTOP)  # it asks as soon as it can
    server.until(lambda: server.get("/health", engine=True)[0] == 200, 120)
    below = server.tree()
    os.kill(core(server), signal.SIGSTOP)
    os.kill(sidecar, signal.SIGCONT)
    server.until(lambda: server.status().get("phase") == "probing")
    server.signal(signal.SIGTERM)
    assert_ended(row("term-probing"), server.wait(30), server.words())
    assert not alive(below)


def test_a_stop_lets_a_stream_finish(serve: Serve) -> None:
    server = serve()
    server.until_ready(120)
    chunks: list[str] = []
    streaming = threading.Thread(target=stream, args=(server, 900, chunks))
    streaming.start()
    server.until(lambda: len(chunks) > 5)
    below = server.tree()
    server.signal(signal.SIGTERM)
    server.until(lambda: server.get("/health/ready")[0] == 503, 0.5)
    at_signal = len(chunks)
    late = {"model": "tiny", "prompt": "Hello", "max_tokens": 1}
    status, body = server.get("/v1/completions", engine=True, body=late)
    assert (status, json.loads(body)["error"]["code"]) == (503, "stopping")
    assert_ended(row("term-streaming"), server.wait(60), server.words())
    streaming.join()
    assert server.words()["receipt"] == {"finished": 1, "refused": 1, "cut": 0}
    assert at_signal < 890
    assert chunks[-1] == "[DONE]"
    assert json.loads(chunks[-2])["choices"][0]["finish_reason"] == "length"
    assert not alive(below)


def test_an_engine_that_hangs(serve: Serve) -> None:
    server = serve(hang_timeout_seconds=4.0)
    server.until_ready(120)
    os.kill(core(server), signal.SIGSTOP)
    body = {"model": "tiny", "prompt": "Hello", "max_tokens": 5}
    asking = threading.Thread(target=lambda: server.get("/v1/completions", engine=True, body=body, seconds=30))
    asking.start()
    assert_ended(row("core-stopped-asked"), server.wait(30), server.words())
    asking.join()


REFUSED = [
    pytest.param(["--no-such-flag"], {}, 50, "unrecognized arguments: --no-such-flag", id="unknown flag"),
    pytest.param(["--max-model-len", "999999"], {}, 50, "context of 999999 tokens", id="too long for the model"),
    pytest.param([], {"model": "/nowhere/model"}, 40, "no such model", id="missing folder"),
]


@pytest.mark.parametrize(("arguments", "options", "code", "text"), REFUSED)
def test_what_is_refused_takes_one_attempt(
    serve: Serve, arguments: list[str], options: dict[str, str], code: int, text: str
) -> None:
    server = serve(*arguments, max_retries=2, **options)
    assert server.wait(90) == code, server.out + server.err
    assert text in server.words()["message"], server.words()
    assert len(server.read("attempts.json")["attempts"]) == 1


def test_heads_that_tensor_parallelism_does_not_divide(serve: Serve) -> None:
    server = serve("--tensor-parallel-size", "3", max_retries=2)
    assert_ended(row("heads-not-divided"), server.wait(240), server.words(), server.read("attempts.json")["attempts"])


def test_a_repository_that_is_not_in_the_cache_takes_no_attempt(serve: Serve) -> None:
    """Offline, a look into the cache tells it; no engine is started."""
    server = serve(max_retries=2, model="nobody/nothing")
    assert server.wait(30) == 40, server.out + server.err
    assert "does not hold nobody/nothing" in server.words()["message"]
    assert "hf download nobody/nothing" in server.words()["hint"]
    assert not (server.state / "attempts.json").exists()
