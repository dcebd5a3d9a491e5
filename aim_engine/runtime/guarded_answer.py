"""The way of one answer through the guard to its client: in pieces, and whether it came whole.

Where the engine answers with an error because it is being stopped, the client is told what it is told of every stop:
503, and when to ask again. A request whose body has not come whole when a stop comes is told the same at once: the
client may take its time for the rest, and nothing of it has begun. Standard library only, and nothing of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# An answer goes out in pieces of this size, each when the client has taken most of those before: what is handed to
# uvicorn at once counts as answered although it lies in the server's memory, and would be lost with it.
_PIECE_BYTES = 1 << 16
# How a stream says that it ends in an error; in a model's own text the quotes and line ends are escaped.
_ERROR_EVENTS = (b'data: {"error"', b"event: error")


class Stop(Protocol):
    """A stop that may be asked for."""

    def is_asked(self) -> bool: ...

    async def wait(self) -> None: ...


class GuardedAnswer:
    """`refuse` tells the client of the stop. `ended` is that all of the answer was handed on."""

    def __init__(self, stop: Stop, receive: Receive, send: Send, refuse: Callable[[], Awaitable[None]]) -> None:
        self._stop, self._receive, self._send, self._refuse = stop, receive, send, refuse
        self.ended = self.client_left = False
        self._asked_whole = self._dropped = self._started = self._refused = self._failed = False

    @property
    def is_whole(self) -> bool:
        return self.ended and not self._failed

    @property
    def was_refused(self) -> bool:
        return self._refused

    async def receive(self) -> Message:
        message = await (self._receive() if self._asked_whole else self._body_or_stop())
        if message["type"] == "http.disconnect":
            self.client_left = self.client_left or not (self.ended or self._dropped)
        elif not message.get("more_body", False):
            self._asked_whole = True
        return message

    async def _body_or_stop(self) -> Message:
        if self._dropped:
            return {"type": "http.disconnect"}
        reading, stop = asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((reading, stop), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
        finally:
            stop.cancel()
            reading.cancel()
        self._dropped = True
        return {"type": "http.disconnect"}

    async def refuse(self) -> bool:
        """Tell the client of the stop instead; False where none was asked for, or an answer has begun."""
        if self._started or not self._stop.is_asked():
            return False
        self._started = self._refused = True
        await self._refuse()
        return True

    async def finish(self) -> None:
        """The application has returned; of a request that was dropped it may have said nothing."""
        if self._dropped:
            await self.refuse()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            is_error = message["status"] >= 500 or self._dropped
            if not (is_error and await self.refuse()):
                self._started = True
                await self._send(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif not self._refused:
            await self._send_body(message)

    async def _send_body(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        self._failed = self._failed or (body.startswith(_ERROR_EVENTS) and self._stop.is_asked())
        if len(body) <= _PIECE_BYTES:
            await self._send(message)
        else:
            for start in range(0, len(body), _PIECE_BYTES):
                goes_on = more or start + _PIECE_BYTES < len(body)
                piece = body[start : start + _PIECE_BYTES]
                await self._send({"type": "http.response.body", "body": piece, "more_body": goes_on})
        self.ended = not more
