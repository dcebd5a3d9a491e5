"""Stand-ins for what runs: a Docker Engine over HTTP that the real SDK talks to, endpoints that answer as told, and
`docker inspect` of a real container, recorded.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import struct
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aim_engine.deploy.endpoints import Endpoint, endpoint_of

LABEL = "ai.aim-engine."
RECORDED = json.loads((Path(__file__).parent / "inspected" / "running.json").read_text())
READY = {"phase": "ready", "ready": True, "live": True, "reason": "", "hint": ""}


def inspected(
    name: str = "aim-one",
    *,
    labels: Mapping[str, str] | None = None,
    state: Mapping[str, Any] | None = None,
    ports: tuple[int | None, int | None] = (None, None),
    environment: tuple[str, ...] = (),
    **more: Any,
) -> dict[str, Any]:
    """The recorded container under another name, with these labels (without the prefix) besides its own."""
    found: dict[str, Any] = copy.deepcopy(RECORDED)
    found["Name"], found["Id"] = f"/{name}", hashlib.sha256(name.encode()).hexdigest()
    found["Config"]["Labels"] |= {LABEL + key: text for key, text in (labels or {}).items()}
    found["Config"]["Env"] += environment
    found["State"] |= state or {}
    for inner, port in zip(("8000/tcp", "8080/tcp"), ports, strict=True):
        binding = [{"HostIp": "127.0.0.1", "HostPort": str(port)}] if port else None
        found["NetworkSettings"]["Ports"][inner] = found["HostConfig"]["PortBindings"][inner] = binding
    return found | more


def ended(code: int, **state: Any) -> dict[str, Any]:
    """A container's state after its end."""
    return {"Status": "exited", "Running": False, "ExitCode": code, **state}


def endpoint(name: str = "aim-one", **changes: Any) -> Endpoint:
    return endpoint_of(inspected(name, **changes))


class Server:
    """HTTP on loopback: `answer(method, path, query, body)` gives status, content type and body."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, self.path, dict(self.headers)))
                status, kind, data = outer.answer(self.command, parts.path, parse_qs(parts.query), body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                try:
                    for piece in outer.pieces(data):
                        self.wfile.write(piece)
                    self.close_connection = self.close_connection or len(data) > outer.cut_bytes
                except OSError:  # whoever asked has left
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server looks for these

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.cut_bytes = 1 << 30  # the connection ends in the middle of a longer answer
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, str, bytes]:
        raise NotImplementedError

    def pieces(self, data: bytes) -> Any:
        yield data[: self.cut_bytes]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Answering(Server):
    """An endpoint's port: a path gives a value (as JSON), a text, a (status, value), or what a function gives."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}
        self.drip_seconds = 0.0
        super().__init__()

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, str, bytes]:
        del method, query
        found = self.routes.get(path, (404, {"error": f"no {path}"}))
        if callable(found):
            found = found(json.loads(body) if body else None)
        status, value = found if isinstance(found, tuple) else (200, found)
        text = value if isinstance(value, str) else json.dumps(value)
        return status, "text/plain" if isinstance(value, str) else "application/json", text.encode()

    def pieces(self, data: bytes) -> Any:
        if not self.drip_seconds:
            yield data
            return
        for index in range(len(data)):
            time.sleep(self.drip_seconds)
            yield data[index : index + 1]


class FakeDocker(Server):
    """What the SDK asks of an engine, for containers that are only values. `on_stop` happens before one has stopped."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[tuple[int, bytes]]] = {}
        self.on_stop: Callable[[dict[str, Any]], None] = lambda container: container["State"].update(ended(0))
        self.on_inspect: Callable[[dict[str, Any]], None] = lambda _: None
        super().__init__()

    @property
    def host(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def add(self, name: str = "aim-one", *, log: tuple[tuple[int, str], ...] = (), **changes: Any) -> dict[str, Any]:
        """A container, whose log has these (1 for stdout or 2 for stderr, text)."""
        found = inspected(name, **changes)
        self.containers[found["Id"]] = found
        self.logs[found["Id"]] = [(stream, text.encode()) for stream, text in log]
        return found

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, str, bytes]:
        del body
        path = re.sub(r"^/v1\.\d+", "", path)
        if path in ("/version", "/_ping"):
            return _json({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.0"})
        if path == "/containers/json":
            return _json([self._listed(one) for one in self._shown(query)])
        parts = path.strip("/").split("/")
        found = self._find(parts[1]) if parts[0] == "containers" and len(parts) > 1 else None
        if found is None:
            return 404, "application/json", b'{"message": "No such container"}'
        return self._of_one(method, parts[2] if len(parts) > 2 else "", found, query)

    def _of_one(
        self, method: str, action: str, found: dict[str, Any], query: dict[str, list[str]]
    ) -> tuple[int, str, bytes]:
        if method == "DELETE":
            del self.containers[found["Id"]]
            return 204, "text/plain", b""
        if action == "json":
            self.on_inspect(found)
            return _json(found)
        if action == "logs":
            return 200, "application/octet-stream", self._log(found, query)
        if action == "stop":
            self.on_stop(found)
            return 204, "text/plain", b""
        if action in ("restart", "start"):
            found["State"] |= {"Status": "running", "Running": True}
            return 204, "text/plain", b""
        return 404, "application/json", b'{"message": "page not found"}'

    def _shown(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        everything = query.get("all", ["0"])[0] in ("1", "true", "True")
        wanted = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
        return [
            one
            for one in list(self.containers.values())
            if everything or one["State"]["Status"] == "running"
            if all(
                one["Config"]["Labels"].get(name) == text for name, _, text in (each.partition("=") for each in wanted)
            )
        ]

    @staticmethod
    def _listed(one: dict[str, Any]) -> dict[str, Any]:
        return {"Id": one["Id"], "Names": [one["Name"]], "Labels": one["Config"]["Labels"],
                "State": one["State"]["Status"]}  # fmt: skip

    def _find(self, name: str) -> dict[str, Any] | None:
        every = self.containers.values()
        return next((one for one in every if name in (one["Id"], one["Name"].strip("/"))), None)

    def _log(self, found: dict[str, Any], query: dict[str, list[str]]) -> bytes:
        wanted = {1 for _ in "x" if query.get("stdout") == ["1"]} | {2 for _ in "x" if query.get("stderr") == ["1"]}
        lines = [(stream, text) for stream, text in self.logs[found["Id"]] if stream in wanted]
        tail = query.get("tail", ["all"])[0]
        lines = lines[-int(tail) :] if tail.isdigit() else lines
        if found["Config"]["Tty"]:
            return b"".join(text for _, text in lines)
        return b"".join(struct.pack(">BxxxL", stream, len(text)) + text for stream, text in lines)


def _json(value: Any) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps(value).encode()
