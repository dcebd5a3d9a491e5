"""Ports: an address and a port in; nothing, or an `InputError` that names who has the port, out.

Binds once and lets go. Knows no server.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from aim_engine.errors import InputError


def check_port(host: str, port: int, setting: str) -> None:
    """Bind the port once, as the engine will.

    Raises:
        InputError: it is taken (the message says by whom, as far as that can be seen), or not ours to take.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InputError(f"AIM_HOST={host} is not an address: {error}", hint="use 0.0.0.0 or 127.0.0.1") from None
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError as error:
            raise _port_refused(host, port, setting, error) from None


def check_address(host: str) -> None:
    """That a server could listen there at all, whatever the port.

    Raises:
        InputError: it is no address of this machine.
    """
    check_port(host, 0, "AIM_PORT")  # the kernel chooses a free one


def _port_refused(host: str, port: int, setting: str, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"{setting}={port}: the port is taken{_holder(port)}",
            hint=f"stop that program, or choose another {setting}",
        )
    if error.errno == errno.EACCES:
        return InputError(
            f"{setting}={port}: uid {os.getuid()} may not listen there", hint=f"set {setting} to 1024 or more"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return InputError(f"AIM_HOST={host} is not an address of this machine", hint="use 0.0.0.0 or 127.0.0.1")
    return InputError(f"{setting}={port} on {host}: {error.strerror}", hint=f"choose another {setting}")


def _holder(port: int) -> str:
    """` by pid 7 (python3)`, as far as /proc lets us see it."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for folder in Path("/proc").iterdir() if wanted else ():
        if not folder.name.isdigit():
            continue
        try:
            if any(os.readlink(entry) in wanted for entry in (folder / "fd").iterdir()):  # noqa: PTH115
                name = (folder / "comm").read_text(errors="replace")  # which the process may set to anything
                return f" by pid {folder.name} ({''.join(letter for letter in name if letter.isprintable())})"
        except OSError:
            continue
    return ""


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: TCP_LISTEN
                found.add(fields[9])
    return found
