"""Talking to supervisord over its private socket: start the server, ask how it ended, shut everything down.

In: the socket's path. Out: `Program` values. Speaks just enough XML-RPC to do without xmlrpc.client, which with its
parsers costs 5 MB in a process of 8.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

_TIMEOUT_SECONDS = 5


class ControlError(Exception):
    """supervisord did not do it, or did not answer."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program as supervisord sees it. `exit_status` is -1 after a signal (supervisor/options.py)."""

    state: str
    pid: int
    exit_status: int

    @property
    def runs(self) -> bool:
        return self.state in ("STARTING", "RUNNING", "STOPPING")


class Control:
    """One supervisord."""

    def __init__(self, path: str) -> None:
        self._path = path

    def program(self, name: str) -> Program:
        """Ask for a program. Asking also wakes supervisord, which looks for ended children once a second only."""
        answer = self._call("getProcessInfo", name)
        state, pid, status = (_member(answer, key) for key in ("statename", "pid", "exitstatus"))
        return Program(state=state, pid=int(pid or 0), exit_status=int(status or 0))

    def start(self, name: str) -> None:
        self._call("startProcess", name, wait=False)

    def shutdown(self) -> None:
        self._call("shutdown")

    def wake(self) -> bool:
        """Make supervisord look around now: a connection ends its poll. False while nobody listens yet."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_TIMEOUT_SECONDS)
                connection.connect(self._path)
        except OSError:
            return False
        return True

    def _call(self, method: str, *names: str, wait: bool | None = None) -> str:
        parameters = "".join(f"<param><value><string>{name}</string></value></param>" for name in names)
        if wait is not None:
            parameters += f"<param><value><boolean>{int(wait)}</boolean></value></param>"
        body = (
            f'<?xml version="1.0"?><methodCall><methodName>supervisor.{method}</methodName>'
            f"<params>{parameters}</params></methodCall>"
        )
        answer = self._post(body)
        if "<fault>" in answer or " 200 " not in answer.partition("\n")[0]:
            raise ControlError(f"supervisord refused {method}: {_member(answer, 'faultString') or answer[:200]}")
        return answer

    def _post(self, body: str) -> str:
        head = f"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_TIMEOUT_SECONDS)
                connection.connect(self._path)
                connection.sendall((head + body).encode())
                while chunk := connection.recv(65536):
                    answer += chunk
        except OSError as error:
            raise ControlError(f"supervisord does not answer: {error}") from error
        return answer.decode("utf-8", "replace")


def _member(answer: str, name: str) -> str:
    """The value of one member of the answer's struct."""
    found = re.search(rf"<name>{name}</name>\s*<value>\s*(?:<\w+>)?([^<]*)<", answer)
    return found[1] if found else ""
