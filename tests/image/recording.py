"""A way to the Docker Engine that writes down what is asked: a socket of our own, each connection passed on, and the
calls by method and route, as docs/production.md lists them.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CALL = re.compile(rb"(?:^|\r\n\r\n|\})(GET|HEAD|POST|PUT|DELETE) (/[^ ?]*)(?:\?\S*)? HTTP/1\.1\r\n")
_NAMED = {"containers": "{id}", "images": "{name}", "networks": "{id}", "volumes": "{name}", "exec": "{id}"}
_VERBS = ("json", "create")


def engine_socket() -> str | None:
    """The engine's own socket, where it is reached by one."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    return where.removeprefix("unix://") if where.startswith("unix://") else None


def route(method: str, path: str) -> str:
    """`GET /containers/{id}/json`: without the version, and with a word in place of what is meant."""
    path = re.sub(r"^/v\d+\.\d+", "", path)
    kind, _, rest = path.strip("/").partition("/")
    if kind not in _NAMED or rest in _VERBS:
        return f"{method} {path}"
    verb = re.search(r"/(json|start|stop|restart|logs|history)$", rest)
    return f"{method} /{kind}/{_NAMED[kind]}{verb[0] if verb else ''}"


class Recording:
    """`before` is told each call before the engine hears it."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path, self._engine = path, engine
        self.calls: list[str] = []
        self.paths: list[tuple[str, str]] = []  # the same as they were made: a method, and a path without its query
        self.before: Callable[[str], None] = lambda _: None
        self._open: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine)
                self._open += [near, far]
                for pump, source, target in ((self._ask, near, far), (self._answer, far, near)):
                    threading.Thread(target=pump, args=(source, target), daemon=True).start()

    def _ask(self, source: socket.socket, target: socket.socket) -> None:
        heard, done = b"", 0
        with suppress(OSError):
            while data := source.recv(65536):
                heard += data
                for found in _CALL.finditer(heard, done):
                    done = found.end() - 4  # the next request begins behind a blank line
                    self._note(found[1].decode(), found[2].decode())
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _note(self, method: str, path: str) -> None:
        self.paths.append((method, path))
        self.calls.append(route(method, path))
        self.before(self.calls[-1])

    @staticmethod
    def _answer(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in (self._listening, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.path.unlink(missing_ok=True)
