"""The sidecar's HTTP server: sockets in, `routes.reply` out.

Threads are few and connections end in time, whatever a client does. Knows nothing of what is said.
"""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aim_engine.runtime.routes import Reply, Snapshot, refusal, reply

_MOST_CONNECTIONS = 32
_IDLE_SECONDS = 5.0
_LONGEST_CONNECTION_SECONDS = 20.0


class HealthServer(ThreadingHTTPServer):
    """At most `_MOST_CONNECTIONS` at a time; when one more comes, the one that has been open longest makes room: a
    probe must not be refused because others hold connections open.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, snapshot: Callable[[], Snapshot], heard: Callable[[str], object] = str
    ) -> None:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        self.snapshot = snapshot
        self.heard = heard
        self._free = threading.Semaphore(_MOST_CONNECTIONS)
        self._open: dict[socket.socket, float] = {}
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        # HTTPServer's own looks up the host's name, which may wait for a DNS that does not answer
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self._end_oldest()
            if not self._free.acquire(timeout=1.0):
                self._turn_away(request)
                return
        self._open[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had
            self._free.release()
            self._turn_away(request)

    def _end_oldest(self) -> None:
        oldest = min(self._open.items(), key=lambda item: item[1], default=None)
        if oldest is not None:
            with suppress(OSError):
                oldest[0].shutdown(socket.SHUT_RDWR)

    def _turn_away(self, request: socket.socket) -> None:
        try:
            request.settimeout(0.1)
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except OSError:
            pass
        self._open.pop(request, None)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.pop(request, None)
            self._free.release()

    def end_slow_connections(self) -> None:
        """End what has been open for long: a client that sends a byte now and then outlives every timeout."""
        for connection, since in list(self._open.items()):
            if time.monotonic() - since > _LONGEST_CONNECTION_SECONDS:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not worth a line."""


class _Handler(BaseHTTPRequestHandler):
    server: HealthServer
    protocol_version = "HTTP/1.1"
    server_version = "aim-engine"
    sys_version = ""
    timeout = _IDLE_SECONDS
    error_message_format = '{"error": "%(message)s", "code": %(code)d}'
    error_content_type = "application/json"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].partition("#")[0]
        path = path if path == "/" else path.rstrip("/")
        self.server.heard(path)
        self._send(reply(path, self.server.snapshot()))

    do_HEAD = do_GET  # noqa: N815 - the base class names them

    def do_POST(self) -> None:
        self.close_connection = True  # its body was not read
        self._send(refusal(405, f"{self.command} is not understood; use GET"), allow="GET, HEAD")

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815

    def _send(self, answer: Reply, *, allow: str = "") -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        if allow:
            self.send_header("Allow", allow)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every second; they are not worth a line."""
