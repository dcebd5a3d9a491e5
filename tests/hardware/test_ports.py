"""Ports: who has them, and addresses that are none."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from aim_engine.errors import InputError
from aim_engine.hardware.preflight.ports import check_port


def test_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(InputError, match=rf"AIM_PORT={port}: the port is taken by pid {os.getpid()}"):
            check_port("127.0.0.1", port, "AIM_PORT")
    check_port("127.0.0.1", port, "AIM_PORT")
    with pytest.raises(InputError, match="AIM_HOST"):
        check_port("192.0.2.1", port, "AIM_PORT")
    with pytest.raises(InputError, match="AIM_HOST"):
        check_port("no such host", port, "AIM_PORT")


def test_the_holders_name_can_be_printed() -> None:
    """A process may call itself anything."""
    comm = Path("/proc/self/comm")
    before = comm.read_text()
    comm.write_text("a\x1b[2J\nb")
    try:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
            with pytest.raises(InputError) as caught:
                check_port("127.0.0.1", port, "AIM_PORT")
    finally:
        comm.write_text(before.strip())
    assert f"by pid {os.getpid()} (a[2Jb)" in caught.value.message


def test_the_remedies_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(InputError) as caught:
        check_port("127.0.0.1", 80, "AIM_PORT")
    assert caught.value.hint == "set AIM_PORT to 1024 or more"
