"""sglang's server behind our guard: its own command line in, its server in this very process out.

`python -m aim_engine.runtime.sglang_server --model-path ...`. sglang takes its API key on the command line only, writes
it into its log and shows it at /server_info; so it is given none. Every request passes `Guarded` instead, which reads
the key from the environment, and answers /load with the number of requests now worked on. Standard library only outside
`main`: sglang's processes import this module again when they are spawned.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from aim_engine.runtime.guard import Application, Guard, Scope
from aim_engine.runtime.guarded_answer import Message, Receive, Send

_LOAD_PATH = "/load"
_JSON = (b"content-type", b"application/json")
_WORK_METHOD = "POST"  # what is only looked at costs the engine nothing
_OWN_PATH = "/freeze_gc"


class Load:
    """An ASGI application in, the same with /load, in vLLM's own words: {"server_load": 2}. Only requests that make the
    engine work are counted.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._now = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["path"] != _LOAD_PATH and scope["method"] != _WORK_METHOD):
            await self._app(scope, receive, send)
            return
        if scope["path"] == _LOAD_PATH:
            await self._answer(send)
            return
        self._now += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._now -= 1

    async def _answer(self, send: Send) -> None:
        body = json.dumps({"server_load": self._now}).encode()
        start: Message = {"type": "http.response.start", "status": 200,
                          "headers": [_JSON, (b"content-length", str(len(body)).encode())]}  # fmt: skip
        await send(start)
        await send({"type": "http.response.body", "body": body})


class Guarded:
    """The guard, and behind it the load. sglang asks one thing of itself, once, when it has started: to leave what it
    has made until then out of Python's garbage collection (http_server.py, _freeze_gc_after_server_warmup). It has no
    key, so the first such request from this machine is let in without.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._guarded = Guard(Load(app))
        self._asked_itself = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._asked_itself and _is_own(scope):
            self._asked_itself = True
            await self._app(scope, receive, send)
            return
        await self._guarded(scope, receive, send)


def _is_own(scope: Scope) -> bool:
    """A client at the address that it asks is on this machine."""
    if scope["type"] != "http" or (scope["method"], scope["path"]) != (_WORK_METHOD, _OWN_PATH):
        return False
    client, server = scope.get("client"), scope.get("server")
    return bool(client and server and client[0] == server[0])


def main(arguments: list[str]) -> None:
    """Serve until told to stop, as sglang's own launch_server.py does."""
    from sglang.launch_server import run_server
    from sglang.srt.entrypoints import http_server
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    _load_plugins()
    app: Any = http_server.app
    app.add_middleware(Guarded)  # the outermost is the last one added: sglang adds none of its own after this but a key
    try:
        run_server(prepare_server_args(arguments))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


def _load_plugins() -> None:
    try:
        from sglang.srt.plugins import load_plugins
    except ImportError:  # sglang before 0.5.11
        return
    load_plugins()


if __name__ == "__main__":
    main(sys.argv[1:])
