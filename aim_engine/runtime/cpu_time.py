"""How much an engine has computed, as far as that shows outside: its process group in; seconds of CPU time out.

Reads /proc/PID/stat (proc(5)). The server's own processes, its front ends, are counted apart: they answer HTTP whatever
becomes of the engine.
Judges nothing, and knows no engine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from aim_engine.runtime.processes import Identity, stat_of

# What kernels are compiled with when they are first used, by the names that the kernel keeps 15 letters of. On ROCm
# that is hipcc, which is clang and lld, driven by ninja (AITER, torch.utils.cpp_extension); elsewhere nvcc's parts.
_COMPILERS = re.compile(
    rb"(?:clang(?:\+\+)?|ld\.lld|lld|llc|opt|hipcc|hipcc\.bin|amdclang(?:\+\+)?|cc1(?:plus)?|[cg]\+\+|gcc|as|ld|ninja"
    rb"|nvcc|cicc|ptxas|cudafe\+\+)(?:-\d+)?"
)
_STOPPED = b"Tt"
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Member(NamedTuple):
    """A process of a group, with its CPU time in clock ticks."""

    identity: Identity
    name: bytes
    state: bytes
    ticks: int


class Computed(NamedTuple):
    """Seconds of CPU time: the engine's, as far as it is work, and the front ends'."""

    engine: float
    front_ends: float


class CpuTime:
    """What one server's processes have worked. `on_host`: the host itself is the accelerator, so that all CPU time of
    the engine is work; otherwise only compilers' is.
    """

    def __init__(self, *, on_host: bool) -> None:
        self._on_host = on_host
        self._engine = _Clock()
        self._front_ends = _Clock()

    def seconds(self, server: int, front_ends: Collection[int] = ()) -> Computed:
        """By now; `server` is a front end, too. Both stand still while a process of the engine is stopped: others may
        spin waiting for that one.
        """
        found = members(server)
        fronts = {one for one in found if one.identity.pid == server or one.identity.pid in front_ends}
        engine = [one for one in found if one not in fronts]
        counts = not any(one.state in _STOPPED for one in engine)
        worked = [one for one in engine if self._on_host or _COMPILERS.fullmatch(one.name)]
        return Computed(self._engine.read(worked, counts=counts), self._front_ends.read(fronts, counts=counts))

    def forget(self) -> None:
        """There is nothing to do: looking at every process would be for nothing."""
        self._engine.forget()
        self._front_ends.forget()


class _Clock:
    """Adds up the CPU time of processes that come and go."""

    def __init__(self) -> None:
        self._known: dict[Identity, int] | None = None
        self._ticks = 0

    def read(self, of: Iterable[Member], *, counts: bool) -> float:
        """Seconds by now; what went by since the last reading is left out unless it `counts`."""
        now = {one.identity: one.ticks for one in of}
        if self._known is not None and counts:
            self._ticks += sum(max(0, ticks - self._known.get(identity, 0)) for identity, ticks in now.items())
        self._known = now
        return self._ticks / _TICKS_A_SECOND

    def forget(self) -> None:
        self._known = None


def members(group: int) -> list[Member]:
    """The living members of a process group."""
    found = (_member(int(name), group) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - slim
    return [member for member in found if member is not None]


def ticks_of(pid: int) -> int:
    """What a process has computed, in clock ticks; 0 where there is none."""
    found = stat_of(pid)
    return _ticks(found[1]) if found else 0


def _ticks(fields: Sequence[bytes]) -> int:
    return int(fields[11]) + int(fields[12])


def _member(pid: int, group: int) -> Member | None:
    found = stat_of(pid)
    if found is None:
        return None
    name, fields = found
    if int(fields[2]) != group or fields[0] in b"ZX":
        return None
    return Member(identity=Identity(pid, int(fields[19])), name=name, state=fields[0], ticks=_ticks(fields))
