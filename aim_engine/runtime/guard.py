"""The guard of the API: an ASGI application in, the same behind a key out. vLLM loads it with
`--middleware aim_engine.runtime.guard.Guard`.

vLLM's own `--api-key` covers only paths under /v1 and a few more (vllm/entrypoints/serve/middleware), which leaves
/invocations, /tokenize, /metrics and others open. Here every route asks for the key but exactly /health. Once a stop
was asked for, new work is refused with 503 (a vLLM that drains answers 500), and how the rest ends is counted in a
file. Standard library only, and nothing of ours: it runs in the engine's process.
"""

from __future__ import annotations

import asyncio
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
# The file whose presence says that a stop was asked for, and the folder for our receipt.
STOP_FILE, RECEIPTS = "AIM_ENGINE_STOP_FILE", "AIM_ENGINE_RECEIPTS"
_LOOK_SECONDS = 0.25
_RETRY_SECONDS = 5
_STOPPING = json.dumps(
    {
        "error": {
            "message": "this endpoint is being stopped; ask another, or again later",
            "type": "service_unavailable",
            "param": None,
            "code": "stopping",
        }
    }
).encode()
_TRY_AGAIN_LATER = 1013  # RFC 6455's registry of close codes
_WORK = ("POST", "PUT", "PATCH", "DELETE")  # to look on is allowed to the last
# Of the health sidecar (`canary`): its requests are nobody's, and so in no receipt.
CANARY_HEADER = b"x-aim-canary"


class Guard:
    """`in_flight` is the number of HTTP requests and WebSockets now open, /health not counted; `working` those that are
    work. From a stop on `finished` counts the work that ended, and `refused` what came too late.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        key = next((value for name in _VARIABLES if (value := os.environ.get(name))), None)
        self._key = os.fsencode(key) if key else None
        self.in_flight = self.working = self.finished = self.refused = 0
        self._stop_file, self._receipts = os.environ.get(STOP_FILE), os.environ.get(RECEIPTS)
        self._stopping = False
        self._looking: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._looking is None and self._stop_file:
            self._looking = asyncio.get_running_loop().create_task(self._look_for_a_stop())
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
        work = scope["type"] == "websocket" or scope["method"] in _WORK
        counts = work and not _is_canary(scope["headers"])
        if work and self._is_stopping():
            self.refused += counts
            self._tell()
            await _refuse(scope, receive, send, body=_STOPPING, status=503)
            return
        self.in_flight += 1
        self.working += counts
        try:
            await self._app(scope, receive, send)
        finally:
            self.in_flight -= 1
            self.working -= counts
            if counts and self._is_stopping():
                self.finished += 1
                self._tell()

    def _is_stopping(self) -> bool:
        self._stopping = self._stopping or bool(self._stop_file and os.path.exists(self._stop_file))  # noqa: PTH110 - slim
        return self._stopping

    async def _look_for_a_stop(self) -> None:
        """What is in flight when a stop comes is told even if nothing ends any more."""
        while not self._is_stopping():
            await asyncio.sleep(_LOOK_SECONDS)
        self._tell()

    def _tell(self) -> None:
        """The receipt as it stands, replaced in one step. A disk that is full must not cost an answer."""
        if not self._receipts:
            return
        path = f"{self._receipts}/receipt-{os.getpid()}.json"
        text = json.dumps({"finished": self.finished, "refused": self.refused, "working": self.working})
        try:
            os.makedirs(self._receipts, mode=0o700, exist_ok=True)  # noqa: PTH103 - slim
            with open(f"{path}.new", "w", encoding="ascii") as file:  # noqa: PTH123 - slim
                file.write(text)
            os.replace(f"{path}.new", path)  # noqa: PTH105 - slim
        except OSError:
            pass


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


def _is_canary(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == CANARY_HEADER for name, _ in headers)


def _is_preflight(scope: Scope) -> bool:
    """A browser asking whether it may ask: it can send no key yet. Answered by the CORS middleware behind us, which
    takes it for one by the same three signs (starlette/middleware/cors.py), and never by a route.
    """
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    names = {name.lower() for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


async def _refuse(scope: Scope, receive: Receive, send: Send, *, body: bytes = _REFUSAL, status: int = 401) -> None:
    if scope["type"] == "websocket":
        await receive()
        code = _POLICY_VIOLATION if status == 401 else _TRY_AGAIN_LATER
        await send({"type": "websocket.close", "code": code, "reason": json.loads(body)["error"]["message"]})
        return
    more = (b"www-authenticate", b"Bearer") if status == 401 else (b"retry-after", str(_RETRY_SECONDS).encode())
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
