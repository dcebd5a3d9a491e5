"""The guard of the API: an ASGI application in, the same behind a key out. vLLM loads it with
`--middleware aim_engine.runtime.guard.Guard`.

vLLM's own `--api-key` covers only paths under /v1 and a few more (vllm/entrypoints/serve/middleware), which leaves
/invocations, /tokenize, /metrics and others open. Here every route asks for the key but exactly /health. Once a stop
was asked for, new work is refused with 503 (a vLLM that drains answers 500), and what is open, and how it ends, is told
in a file (`front_end`). /load is answered here, for all front ends together: vLLM counts a request whose client leaves
down twice, so that its own figure falls below zero for good (0.32, entrypoints/serve/utils/api_utils.py: in
listen_for_disconnect and in the task after the answer).
Standard library only, and of ours what is of the same kind: it runs in the engine's process.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from aim_engine.runtime.front_end import Teller, Told, living, read_front_ends
from aim_engine.runtime.guarded_answer import GuardedAnswer, Receive, Send

Scope = MutableMapping[str, Any]
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
# The file whose presence says that a stop was asked for, and the folder to tell in.
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
# The server can answer a handshake in HTTP (ASGI, "Websocket Denial Response"); a close before it would be a bare 403.
_REFUSES_IN_HTTP = "websocket.http.response"
_WORK = ("POST", "PUT", "PATCH", "DELETE")  # to look on is allowed to the last
# Of the health sidecar (`canary`): its requests are nobody's, and so in no receipt. Nobody else knows this run's value.
CANARY_HEADER = b"x-aim-canary"
CANARY_VALUE = "AIM_ENGINE_CANARY"


class _Stop:
    """The stop that a file asks for. Waiting needs somebody who calls `is_asked` now and then."""

    def __init__(self, file: str | None) -> None:
        self._file = file
        self._asked = asyncio.Event()

    def is_asked(self) -> bool:
        if not self._asked.is_set() and self._file and os.path.exists(self._file):  # noqa: PTH110 - slim
            self._asked.set()
        return self._asked.is_set()

    async def wait(self) -> None:
        await self._asked.wait()


class Guard:
    """`in_flight` is the number of HTTP requests and WebSockets now open, /health not counted; `working` those that are
    work, and `load` these and the canaries; the rest as in `front_end.Told`.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        key = next((value for name in _VARIABLES if (value := os.environ.get(name))), None)
        self._key = os.fsencode(key) if key else None
        self._canary = os.fsencode(os.environ.get(CANARY_VALUE, ""))
        self.in_flight = self.working = self.load = self.finished = self.cut = self.refused = 0
        self._stop_file, self._folder = os.environ.get(STOP_FILE), os.environ.get(RECEIPTS)
        self._teller = Teller(self._folder)
        self._stop = _Stop(self._stop_file)
        self._telling: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._stop_file and (self._telling is None or self._telling.done()):
            self._stop = _Stop(self._stop_file)
            self._telling = asyncio.get_running_loop().create_task(self._go_on_telling())
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
            await _answer(send, 200, json.dumps({"server_load": self._load_of_all()}).encode())
            return
        work = scope["type"] == "websocket" or scope["method"] in _WORK
        counts = work and not _is_canary(self._canary, scope["headers"])
        if work and self._stop.is_asked():
            self.refused += counts
            self._tell()
            await _refuse(scope, receive, send, body=_STOPPING, status=503)
            return
        self.in_flight += 1
        self.load += work
        self.working += counts

        async def refuse() -> None:
            await _refuse(scope, receive, send, body=_STOPPING, status=503)

        answer = GuardedAnswer(self._stop, receive, send, refuse)
        watched = work and scope["type"] == "http"
        try:
            if watched:
                await self._app(scope, answer.receive, answer.send)
                await answer.finish()
            else:
                await self._app(scope, receive, send)
                answer.ended = True
        except Exception:
            if not (watched and await answer.refuse()):
                raise
        finally:
            self.in_flight -= 1
            self.load -= work
            self.working -= counts
            if counts and self._stop.is_asked():
                self._count(answer)
                self._tell()

    def _count(self, answer: GuardedAnswer) -> None:
        if answer.was_refused:
            self.refused += 1
        elif answer.client_left:  # an application may answer all the same
            return
        elif answer.is_whole:
            self.finished += 1
        else:
            self.cut += 1

    def _load_of_all(self) -> int:
        others = (one for one in living(read_front_ends(self._folder)) if one.pid != os.getpid())
        return self.load + sum(one.told.load for one in others)

    async def _go_on_telling(self) -> None:
        """What is in flight when a stop comes is told even if nothing ends any more."""
        while True:
            self._tell()
            await asyncio.sleep(_LOOK_SECONDS)

    def _tell(self) -> None:
        self._teller.tell(Told(stopping=self._stop.is_asked(), load=self.load, working=self.working,
                               finished=self.finished, refused=self.refused, cut=self.cut))  # fmt: skip


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
    more = (b"www-authenticate", b"Bearer") if status == 401 else (b"retry-after", str(_RETRY_SECONDS).encode())
    if scope["type"] == "websocket":
        await receive()
        if _REFUSES_IN_HTTP in (scope.get("extensions") or {}):
            await _answer(send, status, body, more, kind=_REFUSES_IN_HTTP)
            return
        code = _POLICY_VIOLATION if status == 401 else _TRY_AGAIN_LATER
        await send({"type": "websocket.close", "code": code, "reason": json.loads(body)["error"]["message"]})
        return
    await _answer(send, status, b"" if scope["method"] == "HEAD" else body, more, length=len(body))


async def _answer(
    send: Send, status: int, body: bytes, *more: tuple[bytes, bytes], kind: str = "http.response", length: int = -1
) -> None:
    size = len(body) if length < 0 else length
    headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode()), *more]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
