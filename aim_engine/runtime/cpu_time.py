"""How much an engine has computed, as far as that shows outside: its process group in; seconds of CPU time out.

Reads /proc/PID/stat (proc(5)). The server's own process is left out, it answers HTTP whatever becomes of the engine.
Judges nothing, and knows no engine.
"""

from __future__ import annotations

import os
import re
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


class CpuTime:
    """What one server's processes have worked. `on_host`: the host itself is the accelerator, so that all their CPU
    time is work; otherwise only compilers' is.
    """

    def __init__(self, *, on_host: bool) -> None:
        self._on_host = on_host
        self._known: dict[Identity, int] | None = None
        self._ticks = 0

    def seconds(self, server: int) -> float:
        """By now; it stands still while a process of the engine is stopped: others may spin waiting for that one."""
        found = [member for member in members(server) if member.identity.pid != server]
        now = {one.identity: one.ticks for one in found if self._on_host or _COMPILERS.fullmatch(one.name)}
        if self._known is not None and not any(one.state in _STOPPED for one in found):
            self._ticks += sum(max(0, ticks - self._known.get(identity, 0)) for identity, ticks in now.items())
        self._known = now
        return self._ticks / _TICKS_A_SECOND

    def forget(self) -> None:
        """There is nothing to do: looking at every process would be for nothing."""
        self._known = None


def members(group: int) -> list[Member]:
    """The living members of a process group."""
    found = (_member(int(name), group) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - slim
    return [member for member in found if member is not None]


def _member(pid: int, group: int) -> Member | None:
    found = stat_of(pid)
    if found is None:
        return None
    name, fields = found
    if int(fields[2]) != group or fields[0] in b"ZX":
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Member(identity=Identity(pid, int(fields[19])), name=name, state=fields[0], ticks=ticks)
