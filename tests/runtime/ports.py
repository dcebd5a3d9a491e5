"""Ports for what tests start: how many are wanted in, ports of 127.0.0.1 that nobody has out.

They lie below those that the kernel gives away by itself (ip_local_port_range begins at 32768), and each of several
pytest processes at once (pytest-xdist) has its own, or one would take what another is about to use.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress

_FIRST, _LAST, _EACH = 20_000, 32_767, 1_500


def free_ports(count: int) -> list[int]:
    """That nobody listens on at this moment, all different."""
    found: list[int] = []
    for port in _candidates():
        if len(found) == count:
            break
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def _candidates() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    begin = _FIRST + worker * _EACH % (_LAST - _FIRST - _EACH)
    yield from random.sample(range(begin, begin + _EACH), _EACH)
