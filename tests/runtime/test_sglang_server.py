"""What stands before sglang's server: the guard, the count of requests worked on, and sglang's own one request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aim_engine.runtime.sglang_server import Guarded

KEY = "hunter2"


class Sglang:
    """An application that answers 200 when it is let."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        if scope["path"] == "/slow":
            await self.free.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(
    app: Any, path: str, *, method: str = "GET", key: str = "", client: str = "10.0.0.7"
) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
    scope = {"type": "http", "path": path, "method": method, "headers": headers, "client": (client, 5000),
             "server": ("127.0.0.1", 8000)}  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


@pytest.mark.parametrize("path", ["/v1/models", "/generate", "/metrics", "/load", "/server_info", "/health_generate"])
def test_every_route_asks_for_the_key(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIM_API_KEY", KEY)
    engine = Sglang()
    assert asyncio.run(ask(Guarded(engine), path))[0] == 401
    assert engine.asked == []
    assert asyncio.run(ask(Guarded(engine), path, key=KEY))[0] == 200
    assert asyncio.run(ask(Guarded(engine), "/health"))[0] == 200


def test_the_load_is_what_is_worked_on_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIM_API_KEY", raising=False)

    async def run() -> list[int]:
        engine = Sglang()
        app = Guarded(engine)

        async def load() -> int:
            return int(json.loads((await ask(app, "/load"))[1])["server_load"])

        looked = asyncio.create_task(ask(app, "/slow"))
        works = [asyncio.create_task(ask(app, "/slow", method="POST")) for _ in range(2)]
        await asyncio.sleep(0)
        busy = await load()
        engine.free.set()
        await asyncio.gather(looked, *works)
        return [busy, await load()]

    assert asyncio.run(run()) == [2, 0]


def test_sglangs_own_request_is_let_in_once_and_from_here_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIM_API_KEY", KEY)

    async def run() -> list[int]:
        app = Guarded(Sglang())
        asked = [("/freeze_gc", "10.0.0.7"), ("/generate", "127.0.0.1"), ("/freeze_gc", "127.0.0.1"),
                 ("/freeze_gc", "127.0.0.1")]  # fmt: skip
        return [(await ask(app, path, method="POST", client=client))[0] for path, client in asked]

    assert asyncio.run(run()) == [401, 401, 200, 401]
