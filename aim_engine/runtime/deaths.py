"""A rest that ends early: a server and a time in; back when that is over, or as soon as the server, or a process that
it has started, has ended.

Linux tells by a file descriptor for each of them (pidfd_open(2)), so that waiting costs nothing. Judges nothing: it is
only looked again, and for a while more often, because an engine needs a moment to find out about its own processes.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from aim_engine.runtime.members import children_of
from aim_engine.runtime.processes import Identity

_AWAKE_SECONDS = 3.0
_HURRIED_SECONDS = 0.1


class Deaths:
    """Of one server at a time."""

    def __init__(self) -> None:
        self._server: Identity | None = None
        self._poll = select.poll()
        self._watched: set[int] = set()
        self._awake_until = 0.0

    def rest(self, server: Identity | None, seconds: float) -> None:
        """For so long at most. Of a server that was not known before, its processes of now are watched."""
        if self._server != server:
            self._forget()
            self._know(server)
        if time.monotonic() < self._awake_until:
            seconds = min(seconds, _HURRIED_SECONDS)
        ended = self._poll.poll(1000 * seconds)
        for descriptor, _ in ended:  # it would be told again and again
            self._drop(descriptor)
        if ended:
            self._awake_until = time.monotonic() + _AWAKE_SECONDS

    def _know(self, server: Identity | None) -> None:
        self._server = server
        if server is None:
            return
        for one in (server, *children_of(server)):
            with suppress(OSError):  # it has just ended, or there are no descriptors left: then the time decides
                descriptor = os.pidfd_open(one.pid)
                self._watched.add(descriptor)
                self._poll.register(descriptor, select.POLLIN)

    def _forget(self) -> None:
        for descriptor in tuple(self._watched):
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._watched.discard(descriptor)
        os.close(descriptor)
