"""guard.py, driven as ASGI calls it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.ending import receipt_in
from aim_engine.runtime.guard import Guard, Message, Receive, Scope, Send


class App:
    """What is behind the guard: answers, and remembers how many were in flight."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.guard: Guard | None = None
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append(str(scope["type"]))
        self.in_flight = self.guard.in_flight if self.guard else 0
        if scope.get("path") == "/raise":
            raise RuntimeError
        for chunk in (b"a", b"b"):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


def call(key: str | None, monkeypatch: pytest.MonkeyPatch, **scope: Any) -> tuple[App, Guard, list[Message]]:
    for name in ("AIM_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    if key is not None:
        monkeypatch.setenv("AIM_API_KEY", key)
    app, sent = App(), list[Message]()
    guard = app.guard = Guard(app)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    full = {"type": "http", "method": "GET", "path": "/v1/models", "headers": [], **scope}
    with contextlib.suppress(RuntimeError):
        asyncio.run(guard(full, receive, send))
    return app, guard, sent


BEARER = (b"authorization", b"Bearer s3cret")


@pytest.mark.parametrize(
    "headers",
    [
        [BEARER],
        [(b"Authorization", b"bearer s3cret")],
        [(b"authorization", b"BEARER  s3cret")],
        [(b"x-api-key", b"s3cret")],
        [(b"authorization", b"Basic eA=="), (b"x-api-key", b"s3cret")],
    ],
)
def test_the_key_opens(monkeypatch: pytest.MonkeyPatch, headers: list[tuple[bytes, bytes]]) -> None:
    app, guard, sent = call("s3cret", monkeypatch, headers=headers)
    assert app.calls == ["http"]
    assert (app.in_flight, guard.in_flight) == (1, 0)
    assert [message["body"] for message in sent] == [b"a", b"b"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"s3cret")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer s3cre")],
        [(b"authorization", b"Bearer s3crett")],
        [(b"authorization", "Bearer s3cr\u00e9t".encode())],
        [(b"authorization", b"Basic s3cret")],
        [(b"x-api-key", b"")],
        [(b"cookie", b"s3cret")],
    ],
)
def test_everything_else_is_refused(monkeypatch: pytest.MonkeyPatch, headers: list[tuple[bytes, bytes]]) -> None:
    app, _, sent = call("s3cret", monkeypatch, headers=headers)
    assert app.calls == []
    assert sent[0]["status"] == 401
    assert (b"www-authenticate", b"Bearer") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["error"]["code"] == "invalid_api_key"
    assert b"s3cret" not in sent[1]["body"]


@pytest.mark.parametrize(
    "path",
    ["//health", "/health/", "/health/../v1/models", "/Health", "health", "/healthz", "/health\x00", "/x/health", ""],
)
def test_only_health_itself_is_open(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    assert call("s3cret", monkeypatch, path="/health")[0].calls == ["http"]
    assert call("s3cret", monkeypatch, path=path)[0].calls == []
    assert call("s3cret", monkeypatch, path="/v1/models", root_path="/health")[0].calls == []


def test_preflights_pass_only_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [(b"Origin", b"http://a"), (b"Access-Control-Request-Method", b"POST")]
    assert call("s3cret", monkeypatch, method="OPTIONS", headers=whole)[0].calls == ["http"]
    assert call("s3cret", monkeypatch, method="OPTIONS", headers=whole[:1])[0].calls == []
    assert call("s3cret", monkeypatch, method="OPTIONS", headers=whole[1:])[0].calls == []
    assert call("s3cret", monkeypatch, method="GET", headers=whole)[0].calls == []


def test_websockets_are_guarded_and_lifespan_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    app, _, sent = call("s3cret", monkeypatch, type="websocket", path="/health")
    assert app.calls == []
    assert sent[0]["type"] == "websocket.close"
    assert call("s3cret", monkeypatch, type="websocket", headers=[BEARER])[0].calls == ["websocket"]
    assert call("s3cret", monkeypatch, type="lifespan")[0].calls == ["lifespan"]


def test_without_a_key_it_only_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    app, guard, _ = call(None, monkeypatch)
    assert (app.calls, app.in_flight, guard.in_flight) == (["http"], 1, 0)
    assert call("", monkeypatch)[0].calls == ["http"]
    assert call(None, monkeypatch, path="/raise")[1].in_flight == 0


def test_a_head_request_gets_no_body(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("s3cret", monkeypatch, method="HEAD")[2][1]["body"] == b""


def test_it_brings_nothing_into_the_engine() -> None:
    program = (
        "import sys; before = set(sys.modules); import aim_engine.runtime.guard; "
        "print([m for m in set(sys.modules) - before if m.startswith('aim_engine')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert sorted(json.loads(done.stdout.replace("'", '"'))) == [
        "aim_engine",
        "aim_engine.runtime",
        "aim_engine.runtime.guard",
    ]


# --- a stop


def ask(guard: Guard, **scope: Any) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    full = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [], **scope}
    asyncio.run(guard(full, receive, send))
    return sent


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Guard]:
    monkeypatch.setenv("AIM_ENGINE_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.setenv("AIM_ENGINE_RECEIPTS", str(tmp_path / "tmp"))
    for name in ("AIM_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def make() -> Guard:
        app = App()
        app.guard = Guard(app)
        return app.guard

    return make


def test_new_work_is_refused_once_a_stop_was_asked_for(stopping: Callable[[], Guard], tmp_path: Path) -> None:
    guard = stopping()
    assert ask(guard)[0]["type"] == "http.response.body", "no stop yet"
    (tmp_path / "stop").touch()
    start, body = ask(guard)
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"5")
    assert json.loads(body["body"])["error"]["code"] == "stopping"
    assert len(body["body"]) == int(dict(start["headers"])[b"content-length"])
    (close,) = ask(guard, type="websocket")
    assert (close["type"], close["code"]) == ("websocket.close", 1013)
    assert ask(guard, method="GET", path="/metrics")[0]["type"] == "http.response.body", "to look on is allowed"
    assert receipt_in(str(tmp_path / "tmp")) == {"finished": 0, "refused": 2, "cut": 0}


def test_what_was_in_flight_is_counted_as_it_ends(stopping: Callable[[], Guard], tmp_path: Path) -> None:
    guard = stopping()
    sent: list[Message] = []

    async def run() -> None:
        over, begun = asyncio.Event(), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            await over.wait()
            await send({"type": "http.response.body", "body": b"whole"})

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(message)

        guard._app = app
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
        requests = [asyncio.create_task(guard(scope, receive, send)) for _ in range(3)]
        await begun.wait()
        (tmp_path / "stop").touch()
        await asyncio.sleep(0.6)
        assert receipt_in(str(tmp_path / "tmp")) == {"finished": 0, "refused": 0, "cut": 3}, "told though nothing ends"
        requests[0].cancel()
        over.set()
        await asyncio.gather(*requests, return_exceptions=True)

    asyncio.run(run())
    assert receipt_in(str(tmp_path / "tmp")) == {"finished": 3, "refused": 0, "cut": 0}
    assert [message["body"] for message in sent] == [b"whole"] * 2


def test_a_receipt_that_cannot_be_written_costs_no_answer(
    stopping: Callable[[], Guard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIM_ENGINE_RECEIPTS", str(tmp_path / "file" / "below"))
    guard = stopping()
    (tmp_path / "stop").touch()
    assert ask(guard)[0]["status"] == 503
    assert receipt_in(str(tmp_path / "file" / "below")) == {}


def test_the_canary_is_in_no_receipt(stopping: Callable[[], Guard], tmp_path: Path) -> None:
    """It is the sidecar's own: a receipt counts what clients miss."""
    guard = stopping()
    canary = [(b"x-aim-canary", b"1")]
    (tmp_path / "stop").touch()
    assert ask(guard, headers=canary)[0]["status"] == 503
    assert (guard.refused, guard.working, guard.finished) == (0, 0, 0)
    ask(guard)
    assert receipt_in(str(tmp_path / "tmp")) == {"finished": 0, "refused": 1, "cut": 0}


def test_the_canary_needs_the_key_like_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("s3cret", monkeypatch, method="POST", headers=[(b"x-aim-canary", b"1")])[0].calls == []
