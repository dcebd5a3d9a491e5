"""guard.py, driven as ASGI calls it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.ending import receipt_in
from aim_engine.runtime.front_end import FrontEnd, Teller, Told, read_front_ends
from aim_engine.runtime.guard import CANARY_VALUE, Guard, Scope
from aim_engine.runtime.guarded_answer import Message, Receive, Send


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
        "aim_engine.runtime.front_end",
        "aim_engine.runtime.guard",
        "aim_engine.runtime.guarded_answer",
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
    assert receipt_in(str(tmp_path / "tmp")) == {"finished": 2, "refused": 0, "cut": 1}
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


def test_the_canary_is_in_no_receipt(
    stopping: Callable[[], Guard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the sidecar's own: a receipt counts what clients miss."""
    monkeypatch.setenv(CANARY_VALUE, "f00d")
    guard = stopping()
    (tmp_path / "stop").touch()
    assert ask(guard, headers=[(b"x-aim-canary", b"f00d")])[0]["status"] == 503
    assert (guard.refused, guard.working, guard.finished) == (0, 0, 0)
    ask(guard)
    assert receipt_in(str(tmp_path / "tmp")) == {"finished": 0, "refused": 1, "cut": 0}


@pytest.mark.parametrize("known", ["f00d", ""])
@pytest.mark.parametrize("offered", [b"1", b"", b"F00D", b"f00d "])
def test_nobody_else_is_the_canary(
    stopping: Callable[[], Guard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str, offered: bytes
) -> None:
    monkeypatch.setenv(CANARY_VALUE, known)
    guard = stopping()
    (tmp_path / "stop").touch()
    ask(guard, headers=[(b"x-aim-canary", offered)])
    assert receipt_in(str(tmp_path / "tmp")) == {"finished": 0, "refused": 1, "cut": 0}


def test_the_canary_needs_the_key_like_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("s3cret", monkeypatch, method="POST", headers=[(b"x-aim-canary", b"1")])[0].calls == []


# --- how an answer ends


class Engine:
    """Behind the guard: takes the body in, is asked to stop, and answers these messages."""

    def __init__(self, stop: Path, *answer: Message, stops_before_the_body: bool = False) -> None:
        self._stop, self._answer, self._before = stop, answer, stops_before_the_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._before:
            self._stop.touch()
        while (await receive()).get("more_body"):
            pass
        self._stop.touch()
        for message in self._answer:
            if message["type"] == "left":
                await receive()
            elif message["type"] == "raises":
                raise RuntimeError("cannot schedule new futures after shutdown")
            else:
                await send(message)


def start(status: int) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def ended(folder: Path, engine: Engine, *after_the_body: Message) -> tuple[list[Message], dict[str, int]]:
    """What the client got of a request during which a stop came, and the receipt."""
    sent: list[Message] = []
    first: Message = {"type": "http.request", "body": b"{", "more_body": True}
    asked = iter([first, {"type": "http.request", "body": b"}"}, *after_the_body])

    async def receive() -> Message:
        return next(asked)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    asyncio.run(Guard(engine)(scope, receive, send))
    return sent, receipt_in(str(folder / "tmp"))


FINISHED, REFUSED, CUT = ({"finished": 0, "refused": 0, "cut": 0, name: 1} for name in ("finished", "refused", "cut"))


@pytest.mark.usefixtures("stopping")
def test_what_is_answered_whole_is_finished(tmp_path: Path) -> None:
    _, receipt = ended(tmp_path, Engine(tmp_path / "stop", start(200), body(b"a", more=True), body(b"")))
    assert receipt == FINISHED


@pytest.mark.usefixtures("stopping")
def test_an_error_of_an_engine_that_is_stopped_is_a_refusal(tmp_path: Path) -> None:
    sent, receipt = ended(tmp_path, Engine(tmp_path / "stop", start(500), body(b"EngineCore encountered an issue")))
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"retry-after"]) == (503, b"5")
    assert [json.loads(one["body"])["error"]["code"] for one in sent[1:]] == ["stopping"]
    assert receipt == REFUSED


@pytest.mark.usefixtures("stopping")
def test_a_body_that_is_whole_only_after_the_stop_is_refused_or_answered(tmp_path: Path) -> None:
    """Refused where the engine cannot take it any more."""
    late = Engine(tmp_path / "stop", start(500), body(b"cannot schedule"), stops_before_the_body=True)
    sent, receipt = ended(tmp_path, late)
    assert (sent[0]["status"], receipt) == (503, REFUSED)
    (tmp_path / "stop").unlink()
    failing = Engine(tmp_path / "stop", {"type": "raises"}, stops_before_the_body=True)
    sent, receipt = ended(tmp_path, failing)
    assert (sent[0]["status"], receipt) == (503, REFUSED)
    (tmp_path / "stop").unlink()
    answered = Engine(tmp_path / "stop", start(200), body(b"x"), stops_before_the_body=True)
    assert ended(tmp_path, answered)[1] == FINISHED


@pytest.mark.parametrize("says", ["nothing", "400", "raises"])
def test_who_has_not_sent_all_of_a_request_when_a_stop_comes_is_refused_at_once(
    stopping: Callable[[], Guard], tmp_path: Path, says: str
) -> None:
    """However the application takes it that its client is gone."""
    guard, sent = stopping(), list[Message]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"{"
        (tmp_path / "stop").touch()
        assert (await receive())["type"] == "http.disconnect"
        assert (await receive())["type"] == "http.disconnect"
        if says == "raises":
            raise RuntimeError
        if says == "400":
            await send(start(400))
            await send(body(b"there was an error parsing the body"))

    asked = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive() -> Message:
        for message in asked:
            return message
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: Message) -> None:
        sent.append(message)

    guard._app = app
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 5))
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"retry-after"], len(sent)) == (503, b"5", 2)
    assert receipt_in(str(tmp_path / "tmp")) == REFUSED


def test_a_handshake_is_refused_in_http_where_the_server_can(stopping: Callable[[], Guard], tmp_path: Path) -> None:
    guard = stopping()
    (tmp_path / "stop").touch()
    begin, end = ask(guard, type="websocket", extensions={"websocket.http.response": {}})
    assert (begin["type"], begin["status"]) == ("websocket.http.response.start", 503)
    assert dict(begin["headers"])[b"retry-after"] == b"5"
    assert (end["type"], json.loads(end["body"])["error"]["code"]) == ("websocket.http.response.body", "stopping")


@pytest.mark.usefixtures("stopping")
@pytest.mark.parametrize("event", [b'data: {"error": {"code": 500}}\n\n', b"event: error\ndata: {}\n\n"])
def test_a_stream_that_ends_in_an_error_is_cut(tmp_path: Path, event: bytes) -> None:
    whole = [start(200), body(b'data: {"id": 1}\n\n', more=True), body(event, more=True), body(b"data: [DONE]")]
    sent, receipt = ended(tmp_path, Engine(tmp_path / "stop", *whole, body(b"")))
    assert sent[:4] == whole, "the client is told as the engine says it"
    assert receipt == CUT


@pytest.mark.usefixtures("stopping")
def test_an_answer_that_breaks_off_is_cut_and_a_client_that_leaves_is_nobody_s_loss(tmp_path: Path) -> None:
    assert ended(tmp_path, Engine(tmp_path / "stop", start(200), body(b"a", more=True)))[1] == CUT
    (tmp_path / "stop").unlink()
    gone = Engine(tmp_path / "stop", start(200), body(b"a", more=True), {"type": "left"})
    assert ended(tmp_path, gone, {"type": "http.disconnect"})[1] == {"finished": 0, "refused": 0, "cut": 0}
    (tmp_path / "stop").unlink()
    to_nobody = Engine(tmp_path / "stop", {"type": "left"}, start(200), body(b"null"))
    assert ended(tmp_path, to_nobody, {"type": "http.disconnect"})[1] == {"finished": 0, "refused": 0, "cut": 0}


@pytest.mark.usefixtures("stopping")
def test_a_large_answer_goes_out_in_pieces(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    sent, receipt = ended(tmp_path, Engine(tmp_path / "stop", start(200), body(data)))
    assert b"".join(one["body"] for one in sent[1:]) == data
    assert [one["more_body"] for one in sent[1:]] == [True] * 3 + [False]
    assert receipt == FINISHED


def test_the_load_is_what_the_guard_has_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canaries too; who looks is no load."""
    monkeypatch.delenv("AIM_ENGINE_STOP_FILE", raising=False)
    guard: Guard
    loads: list[int] = []

    async def nothing(*_: Any) -> Message:
        return {"type": "http.request"}

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        async def look(message: Message) -> None:
            if message["type"] == "http.response.body":
                loads.append(json.loads(message["body"])["server_load"])

        await guard({**scope, "method": "GET", "path": "/load"}, nothing, look)

    async def ignore(_: Message) -> None:
        pass

    guard = Guard(inside)
    for method, headers in (("POST", []), ("POST", [(b"x-aim-canary", b"f00d")]), ("GET", [])):
        scope = {"type": "http", "method": method, "path": "/v1/x", "headers": headers}
        asyncio.run(guard(scope, nothing, ignore))
    assert loads == [1, 1, 0]
    assert guard.load == 0


def test_the_load_is_that_of_all_front_ends(stopping: Callable[[], Guard], tmp_path: Path) -> None:
    """Which of them answers is chance; those that are gone have none."""
    folder = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    for pid, load in ((os.getppid(), 3), (2**22 + 1, 40)):
        (tmp_path / "tmp" / f"front-end-{pid}.json").write_text(json.dumps(Told(load=load)._asdict()))
    assert {one.pid: one.told.load for one in read_front_ends(folder)} == {os.getppid(): 3, 2**22 + 1: 40}
    sent = ask(stopping(), method="GET", path="/load")
    assert json.loads(sent[1]["body"]) == {"server_load": 3}


def test_a_front_end_tells_again_and_again_as_long_as_it_runs(stopping: Callable[[], Guard], tmp_path: Path) -> None:
    guard, beats = stopping(), list[FrontEnd]()

    async def run() -> None:
        await guard({"type": "lifespan"}, nothing, ignore)
        for _ in range(3):
            await asyncio.sleep(0.3)
            beats.extend(read_front_ends(str(tmp_path / "tmp")))
            if len(beats) == 2:
                shutil.rmtree(tmp_path / "tmp")

    async def nothing() -> Message:
        return {}

    async def ignore(_: Message) -> None:
        pass

    asyncio.run(run())
    assert [one.pid for one in beats] == [os.getpid()] * 3
    assert len({one.beat for one in beats}) == 3
    assert not any(one.told.stopping for one in beats)
    assert receipt_in(str(tmp_path / "tmp")) == {}, "before a stop there is nothing to receipt"


def test_a_front_end_that_cannot_write_is_known_by_its_last_words(tmp_path: Path) -> None:
    """A full disk: the file stays as it is, and is touched all the same."""
    folder = tmp_path / "tmp"
    teller = Teller(str(folder))
    teller.tell(Told(load=1))
    (before,) = read_front_ends(str(folder))
    (folder / f"front-end-{os.getpid()}.json.new").mkdir()  # nothing can be written there now
    time.sleep(0.02)
    teller.tell(Told(load=2))
    (after,) = read_front_ends(str(folder))
    assert (after.told.load, after.pid) == (1, os.getpid())
    assert after.beat > before.beat
