"""A small hub of our own, as the real hub's client asks one: models' descriptions and files, ranges, redirects of large
files to another host, tokens, and every way to fail, by a switch.

Runs in threads of this process, or as a process of its own: `python -m tests.fakes.hub FOLDER [MILLISECONDS]` serves
each folder FOLDER/org/name and prints its address.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.building import TINY_CONFIG, safetensors

COMMIT = "a" * 40
TINY = {
    "config.json": json.dumps(TINY_CONFIG).encode(),
    "model.safetensors": safetensors({"a": ("BF16", (512, 64), 2)}),
    "tokenizer.json": b"{}",
}
OLDER = {"config.json": TINY["config.json"], "pytorch_model.bin": bytes(1000), "tokenizer.json": b"{}"}
_LARGE = (".safetensors", ".bin", ".gguf")  # what a hub keeps apart, and sends elsewhere for


@dataclass(kw_only=True)
class Model:
    """One repository. `fault` is a way to fail, `fault_times` times, for paths that hold `fault_at`; `readers` are the
    tokens that may read a gated or private one.
    """

    files: Mapping[str, bytes] = field(default_factory=lambda: TINY)
    commits: Mapping[str, str] = field(default_factory=lambda: {"main": COMMIT})
    kind: str = "models"
    gated: bool = False
    private: bool = False
    readers: tuple[str, ...] = ()
    fault: str = ""
    fault_at: str = ""
    fault_times: int = 1_000_000
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Hub:
    """What it serves, and what it was asked, "METHOD path token" each; `elsewhere` is what the other host was asked."""

    address: str = ""
    other_address: str = ""
    models: dict[str, Model] = field(default_factory=dict)
    tokens: tuple[str, ...] = ("hf_hunter2",)
    seconds: float = 0.0
    seen: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def paths(self) -> list[str]:
        return [line.split(" ")[1] for line in self.seen]


class _RefusedError(Exception):
    """An answer without content: status, headers."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__()
        self.status = status
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


class _Handler(BaseHTTPRequestHandler):
    """The hub itself."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.note(f"{self.command} {self.path} {token}")
        time.sleep(self.hub.seconds)
        try:
            self.serve(unquote(urlsplit(self.path).path), token)
        except _RefusedError as refused:
            self.reply(refused.status, b"", refused.headers)

    def note(self, line: str) -> None:
        self.hub.seen.append(line)

    def serve(self, path: str, token: str) -> None:
        for kind in ("models", "datasets", "spaces"):
            if path.startswith(f"/api/{kind}/"):
                if "/tree/" in path:  # as a download asks
                    name, _, revision = path.removeprefix(f"/api/{kind}/").partition("/tree/")
                    return self.tree(name, revision, token)
                name, _, revision = path.removeprefix(f"/api/{kind}/").partition("/revision/")
                return self.describe(name, kind, revision or "main", token)
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        model = self.model(name, "models", token)
        for revision, commit in self.revisions(model).items():
            if rest.startswith(f"{revision}/"):
                return self.file(name, model, commit, rest.removeprefix(f"{revision}/"), token)
        raise _RefusedError(404, X_Error_Code="RevisionNotFound")

    @staticmethod
    def revisions(model: Model) -> dict[str, str]:
        return {**model.commits, **{commit: commit for commit in model.commits.values()}}

    def model(self, name: str, kind: str, token: str) -> Model:
        """As the real one: 401 where it does not know you and there is no such thing for you, 404 where it does."""
        if token and token not in self.hub.tokens:
            raise _RefusedError(401, X_Error_Message="Invalid credentials in Authorization header")
        model = self.hub.models.get(name)
        if model is None or model.kind != kind or (model.private and token not in model.readers):
            raise _RefusedError(404 if token else 401, X_Error_Code="RepoNotFound")
        return model

    def describe(self, name: str, kind: str, revision: str, token: str) -> None:
        model = self.model(name, kind, token)
        self.fail(model, self.path)
        commit = self.revisions(model).get(revision)
        if commit is None:
            raise _RefusedError(404, X_Error_Code="RevisionNotFound")
        siblings = [{"rfilename": file, "size": len(data)} for file, data in model.files.items()]
        said = {"id": name, "sha": commit, "siblings": siblings, "gated": model.gated, **model.about}
        self.reply(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def tree(self, name: str, revision: str, token: str) -> None:
        model = self.model(name, "models", token)
        revision, _, below = revision.partition("/")
        if revision not in self.revisions(model):
            raise _RefusedError(404, X_Error_Code="RevisionNotFound")
        if below:  # no model of ours has folders
            raise _RefusedError(404, X_Error_Code="EntryNotFound")
        files = [{"type": "file", "path": file, "size": len(data), "oid": file} for file, data in model.files.items()]
        self.reply(200, json.dumps(files).encode(), {"Content-Type": "application/json"})

    def file(self, name: str, model: Model, commit: str, file: str, token: str) -> None:
        if model.gated and token not in model.readers:
            raise _RefusedError(403 if token else 401, X_Error_Code="GatedRepo")
        self.fail(model, file)
        if file not in model.files:
            raise _RefusedError(404, X_Error_Code="EntryNotFound")
        data = model.files[file]
        headers = {"ETag": f'"{file}"', "X-Repo-Commit": commit, "Content-Type": "text/plain"}
        if file.endswith(_LARGE):
            place = f"{self.hub.other_address}/{name}/{file}?signature=1"
            headers |= {"Location": place, "X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{file}"'}
            return self.reply(302, b"", headers)
        return self.reply(200, data, headers)

    def fail(self, model: Model, path: str) -> None:
        if not model.fault or model.fault_at not in path or model.fault_times <= 0:
            return
        model.fault_times -= 1
        if model.fault.isdigit():
            raise _RefusedError(int(model.fault), **model.about.get("headers", {}))
        getattr(self, f"fail_{model.fault}")(model)

    def fail_silent(self, model: Model) -> None:
        self.hub.over.wait(60)
        raise ConnectionResetError

    def fail_drip(self, model: Model) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.hub.over.wait(0.1):
            self.wfile.write(b" ")
            self.wfile.flush()
        raise ConnectionResetError

    def fail_cut(self, model: Model) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"{")
        self.close_connection = True
        raise ConnectionResetError

    def fail_half(self, model: Model) -> None:
        """Half of a file that is asked for as a whole, and then silence; what is asked for in part is answered."""
        if self.headers.get("Range") or self.command != "GET":
            return
        data = max(model.files.values(), key=len)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.hub.over.wait(120)
        raise ConnectionResetError

    def fail_html(self, model: Model) -> None:
        self.reply(200, b"<html>Please log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        raise ConnectionResetError

    def fail_garbage(self, model: Model) -> None:
        self.reply(200, b"\xff{[", {"Content-Type": "application/json"})
        raise ConnectionResetError

    def fail_hang_up(self, model: Model) -> None:
        raise ConnectionResetError

    def fail_loop(self, model: Model) -> None:
        raise _RefusedError(302, Location=self.path)

    def reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        more = {}
        if first and status == 200:
            more = {"Content-Range": f"bytes {first}-{min(int(last), len(body) - 1)}/{len(body)}"}
            status, body = (206, body[int(first) : int(last) + 1]) if int(first) < len(body) else (416, b"")
        self.send_response(status)
        for name, text in {**(headers or {}), **more, "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command == "GET":
            self.hub.sent_bytes += len(body)
            self.wfile.write(body)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *words: Any) -> None:
        """Quiet."""


class _Elsewhere(_Handler):
    """The host of large files: whoever has the address may read, so it must never be told a token."""

    def note(self, line: str) -> None:
        self.hub.elsewhere.append(line)

    def serve(self, path: str, token: str) -> None:
        org, name, file = path.removeprefix("/").split("/", 2)
        model = self.hub.models[f"{org}/{name}"]
        self.fail(model, f"elsewhere/{file}")
        self.reply(200, model.files[file], {"Content-Type": "application/octet-stream", "ETag": f'"{file}"'})

    def fail_no_ranges(self, model: Model) -> None:
        del self.headers["Range"]

    def fail_short(self, model: Model) -> None:
        self.reply(206, b"\x10", {"Content-Range": "bytes 0-0/100000"})
        raise ConnectionResetError


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *words: Any) -> None:
        """A client that does not trust us hangs up."""


@contextmanager
def hub_here(
    models: Mapping[str, Model] | None = None, /, *, tls: ssl.SSLContext | None = None, **more: Model
) -> Iterator[Hub]:
    """A hub with org/<name> of each of these models."""
    hub = Hub(models={f"org/{name}": model for name, model in {**(models or {}), **more}.items()})
    servers = [_Server(("127.0.0.1", 0), type("This", (kind,), {"hub": hub})) for kind in (_Handler, _Elsewhere)]
    scheme = "https" if tls else "http"
    hub.address, hub.other_address = (f"{scheme}://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        server.socket = tls.wrap_socket(server.socket, server_side=True) if tls else server.socket
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.over.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def main(folder: Path, milliseconds: float) -> None:
    """Serve folders until the end of stdin."""
    with hub_here() as hub:
        hub.seconds = milliseconds / 1000
        for home in folder.glob("*/*"):
            files = {path.name: path.read_bytes() for path in home.iterdir()}
            hub.models["/".join(home.parts[-2:])] = Model(files=files)
        print(hub.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
