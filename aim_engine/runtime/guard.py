"""The guard of the API: an ASGI application in, the same behind a key out. vLLM loads it with
`--middleware aim_engine.runtime.guard.Guard`.

vLLM's own `--api-key` covers only paths under /v1 and a few more (vllm/entrypoints/serve/middleware), which leaves
/invocations, /tokenize, /metrics and others open. Here every route asks for the key but exactly /health. Once a stop
was asked for, new work is refused with 503 (a vLLM that drains answers 500), and how the rest ends is counted in a
file. /load is answered here: vLLM counts a request whose client leaves down twice, so that its own figure falls below
zero for good (0.32, entrypoints/serve/utils/api_utils.py: in listen_for_disconnect and in the task after the answer).
Standard library only, and nothing of ours: it runs in the engine's process.
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
_OPEN_PATH, _LOAD_PATH = "/health", "/load"
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
# Of the health sidecar (`canary`): its requests are nobody's, and so in no receipt. Nobody else knows this run's value.
CANARY_HEADER = b"x-aim-canary"
CANARY_VALUE = "AIM_ENGINE_CANARY"
# An answer goes out in pieces of this size, each when the client has taken most of those before: what is handed to
# uvicorn at once counts as answered although it lies in the server's memory, and would be lost with it.
_PIECE_BYTES = 1 << 16
# How a stream says that it ends in an error; in a model's own text the quotes and line ends are escaped.
_ERROR_EVENTS = (b'data: {"error"', b"event: error")


class Guard:
    """`in_flight` is the number of HTTP requests and WebSockets now open, /health not counted; `working` those that are
    work, and `load` these and the canaries. From a stop on `finished` counts the work that was answered whole, `cut`
    what was not although its client stayed, and `refused` what came too late.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        key = next((value for name in _VARIABLES if (value := os.environ.get(name))), None)
        self._key = os.fsencode(key) if key else None
        self._canary = os.fsencode(os.environ.get(CANARY_VALUE, ""))
        self.in_flight = self.working = self.load = self.finished = self.cut = self.refused = 0
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
        if scope["type"] == "http" and scope["path"] == _LOAD_PATH and scope["method"] == "GET":
            await _answer(send, 200, json.dumps({"server_load": self.load}).encode())
            return
        work = scope["type"] == "websocket" or scope["method"] in _WORK
        counts = work and not _is_canary(self._canary, scope["headers"])
        if work and self.is_stopping():
            self.refused += counts
            self._tell()
            await _refuse(scope, receive, send, body=_STOPPING, status=503)
            return
        self.in_flight += 1
        self.load += work
        self.working += counts
        answer = _Answer(self.is_stopping, scope, receive, send)
        watched = work and scope["type"] == "http"
        try:
            if watched:
                await self._app(scope, answer.receive, answer.send)
            else:
                await self._app(scope, receive, send)
                answer.ended = True
        except Exception:
            if not (watched and await answer.replace()):
                raise
        finally:
            self.in_flight -= 1
            self.load -= work
            self.working -= counts
            if counts and self.is_stopping():
                self._count(answer)
                self._tell()

    def _count(self, answer: _Answer) -> None:
        if answer.came_late:
            self.refused += 1
        elif answer.is_whole:
            self.finished += 1
        elif not answer.client_left:
            self.cut += 1

    def is_stopping(self) -> bool:
        self._stopping = self._stopping or bool(self._stop_file and os.path.exists(self._stop_file))  # noqa: PTH110 - slim
        return self._stopping

    async def _look_for_a_stop(self) -> None:
        """What is in flight when a stop comes is told even if nothing ends any more."""
        while not self.is_stopping():
            await asyncio.sleep(_LOOK_SECONDS)
        self._tell()

    def _tell(self) -> None:
        """The receipt as it stands, replaced in one step. A disk that is full must not cost an answer."""
        if not self._receipts:
            return
        path = f"{self._receipts}/receipt-{os.getpid()}.json"
        text = json.dumps({"finished": self.finished, "refused": self.refused,
                           "working": self.working, "cut": self.cut})  # fmt: skip
        try:
            os.makedirs(self._receipts, mode=0o700, exist_ok=True)  # noqa: PTH103 - slim
            with open(f"{path}.new", "w", encoding="ascii") as file:  # noqa: PTH123 - slim
                file.write(text)
            os.replace(f"{path}.new", path)  # noqa: PTH105 - slim
        except OSError:
            pass


class _Answer:
    """The way of one answer to its client: in pieces, and whether it came whole. Where the engine answers with an error
    because it is being stopped, the client is told what it is told of every stop: 503, and when to ask again.
    """

    def __init__(self, is_stopping: Callable[[], bool], scope: Scope, receive: Receive, send: Send) -> None:
        self._is_stopping, self._scope, self._receive, self._send = is_stopping, scope, receive, send
        self.ended = self.client_left = False
        self._started = self._late = self._replaced = self._failed = False

    @property
    def is_whole(self) -> bool:
        return self.ended and not self._failed

    @property
    def came_late(self) -> bool:
        """What was asked was not known before the stop, and it was not answered."""
        return self._late and self._replaced

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client_left = self.client_left or not self.ended
        elif not message.get("more_body", False):
            self._late = self._is_stopping()
        return message

    async def replace(self) -> bool:
        """Tell the client of the stop instead; False where none was asked for, or an answer has begun."""
        if self._started or not self._is_stopping():
            return False
        self._started = self._replaced = True
        await _refuse(self._scope, self._receive, self._send, body=_STOPPING, status=503)
        return True

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] < 500 or not await self.replace():
                self._started = True
                await self._send(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif not self._replaced:
            await self._send_body(message)

    async def _send_body(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        self._failed = self._failed or (body.startswith(_ERROR_EVENTS) and self._is_stopping())
        if len(body) <= _PIECE_BYTES:
            await self._send(message)
        else:
            for start in range(0, len(body), _PIECE_BYTES):
                goes_on = more or start + _PIECE_BYTES < len(body)
                piece = body[start : start + _PIECE_BYTES]
                await self._send({"type": "http.response.body", "body": piece, "more_body": goes_on})
        self.ended = not more


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


def _is_canary(known: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    offered = next((value for name, value in headers if name.lower() == CANARY_HEADER), b"")
    return known != b"" and hmac.compare_digest(offered, known)


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
    await _answer(send, status, body, more, without_body=scope["method"] == "HEAD")


async def _answer(send: Send, status: int, body: bytes, *more: tuple[bytes, bytes], without_body: bool = False) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if without_body else body})
