"""The guard of the API: an ASGI application in, the same behind a key out. vLLM loads it with
`--middleware aim_engine.runtime.guard.Guard`.

vLLM's own `--api-key` covers only paths under /v1 and a few more (vllm/entrypoints/serve/middleware), which leaves
/invocations, /tokenize, /metrics and others open. Here every route asks for the key but exactly /health. Standard
library only, and nothing of ours: it runs in the engine's process. Without a key it only counts.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_VARIABLES = ("AIM_API_KEY", "VLLM_API_KEY")
_OPEN_PATH = "/health"
_REFUSAL = json.dumps(
    {
        "error": {
            "message": "the API key is missing or wrong: send it as `Authorization: Bearer KEY`",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }
).encode()
_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1


class Guard:
    """`in_flight` is the number of HTTP requests and WebSockets now open, /health not counted."""

    def __init__(self, app: Application) -> None:
        self._app = app
        key = next((value for name in _VARIABLES if (value := os.environ.get(name))), None)
        self._key = os.fsencode(key) if key else None
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # lifespan
            await self._app(scope, receive, send)
            return
        # the decoded path as the router sees it: //health, /health/ and the like are other routes, and stay shut
        if scope["type"] == "http" and scope["path"] == _OPEN_PATH:
            await self._app(scope, receive, send)
            return
        if self._key is not None and not _knows(self._key, scope["headers"]) and not _is_preflight(scope):
            await _refuse(scope, receive, send)
            return
        self.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.in_flight -= 1


def _knows(key: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"authorization":
            scheme, _, offered = value.partition(b" ")
            if scheme.lower() == b"bearer" and hmac.compare_digest(offered.strip(), key):
                return True
        elif lowered == b"x-api-key" and hmac.compare_digest(value.strip(), key):
            return True
    return False


def _is_preflight(scope: Scope) -> bool:
    """A browser asking whether it may ask: it can send no key yet. Answered by the CORS middleware behind us, which
    takes it for one by the same three signs (starlette/middleware/cors.py), and never by a route.
    """
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    names = {name.lower() for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "the API key is missing or wrong"})
        return
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"www-authenticate", b"Bearer"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _REFUSAL})
