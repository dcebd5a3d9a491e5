"""The processes that a server cannot do without: a server that has become ready in; how long one of them is missing,
out.

An engine's API server outlives its engine process: vLLM's looks for it every five seconds as long as nobody asks for
anything (vllm/entrypoints/launchers/launcher.py, watchdog_loop). Knows no engine: what the server had as children when
it became ready is what it needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aim_engine.runtime import processes
from aim_engine.runtime.processes import Identity

OWN_END_SECONDS = 0.5  # in which a server whose process died may tell its clients, and end by itself
LOST = "after a process of it had died"  # how it ended that was ended for this


class Members:
    """Of one server at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._server: Identity | None = None
        self._children: tuple[Identity, ...] = ()
        self._missing_since: float | None = None

    def missing_seconds(self, server: Identity | None) -> float:
        """Since when one of them was first missed; 0 where none is. Of a server that was not known before, those that
        are there now are what it needs.
        """
        if server is None:
            return 0.0
        if self._server != server:
            self._server, self._children, self._missing_since = server, children_of(server), None
        if all(processes.is_alive(child) for child in self._children):
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = self._clock()
        return 0.0 if self._missing_since is None else self._clock() - self._missing_since


def children_of(server: Identity) -> tuple[Identity, ...]:
    """The processes that it has started, and that live."""
    everyone = processes.everyone().values()
    return tuple(one.identity for one in everyone if one.parent == server.pid and one.state not in "ZX")
