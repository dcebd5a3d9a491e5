"""A small hub of our own: three files of org/good over HTTP, as the real hub's client asks for them; and refusals."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.building import TINY_CONFIG, safetensors

FILES = {
    "config.json": json.dumps(TINY_CONFIG).encode(),
    "model.safetensors": safetensors({"a": ("BF16", (512, 64), 2)}),
    "tokenizer.json": b"{}",
}
SERVED = {*(("org/good", name) for name in FILES), ("org/older", "config.json")}


class Hub(BaseHTTPRequestHandler):
    """Serves org/good, and org/older without safetensors; refuses the others as the hub refuses them."""

    seen: list[str]

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.seen.append(f"{self.command} {self.path} {self.headers.get('authorization', '')}")
        model, _, file = self.path.removeprefix("/").partition("/resolve/main/")
        if model == "org/gated":
            return self.reply(403, b"", {"X-Error-Code": "GatedRepo"})
        if model == "org/absent" or model.startswith("Qwen/"):
            return self.reply(401, b"", {"X-Error-Code": "RepoNotFound"})
        if model == "org/broken":
            return self.reply(500, b"")
        if (model, file) not in SERVED:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self.reply(200, FILES[file], {"ETag": f'"{file}"', "X-Repo-Commit": "a" * 40})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if first and status == 200:
            status, body = 206, body[int(first) : int(last) + 1]
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Quiet."""


@contextmanager
def hub_here() -> Iterator[tuple[str, list[str]]]:
    """The hub's address, and what it was asked."""
    seen: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisHub", (Hub,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
