"""Ports: who has them, and addresses that are none."""

from __future__ import annotations

import os
import socket

import pytest

from aim_engine.errors import InputError
from aim_engine.hardware.ports import check_port


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
