"""Signs of work: a process group in, what each of its processes has done so far out; two such looks in, whether that
was work.

Reads /proc (proc_pid_stat(5), proc_pid_io(5)) and knows nothing of engines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aim_engine.runtime import processes
from aim_engine.runtime.processes import Identity

# Waiting costs a little too: an engine's core that waited for a silent download was seen to use 0.014 of a core (vLLM
# 0.32). Each process is judged alone, so that many that wait do not look like one that works.
_LEAST_SHARE = 0.05  # of one core
_LEAST_BYTES = 1 << 20
_LEAST_FAULTS = 16  # pages, or more with what is read ahead, that a disk had to be asked for
_MOVED = re.compile(rb"^(?:rchar|wchar|read_bytes|write_bytes): (\d+)$", re.MULTILINE)
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of one process since it began: time on a processor, that of its children that have ended included; pages that
    came from a disk; and bytes read and written, by whatever way (0 where the kernel does not tell).
    """

    cpu_seconds: float = 0.0
    faults: int = 0
    bytes: int = 0


def work_of(group: int, *, without_leader: bool = False) -> dict[Identity, Work]:
    """What the group has done. Without its leader, the server, for one whose own work is to be asked how it is."""
    members = [one.identity for one in processes.everyone().values() if one.group == group]
    return {one: _work(one.pid) for one in members if one.pid != group or not without_leader}


def is_work(before: Mapping[Identity, Work], after: Mapping[Identity, Work], seconds: float) -> bool:
    """Whether something was done in the `seconds` between two looks. That a process began or ended is something."""
    return before.keys() != after.keys() or any(_has_worked(before[one], after[one], seconds) for one in after)


def _has_worked(before: Work, after: Work, seconds: float) -> bool:
    return (
        after.cpu_seconds - before.cpu_seconds >= _LEAST_SHARE * seconds
        or after.faults - before.faults >= _LEAST_FAULTS
        or after.bytes - before.bytes >= _LEAST_BYTES
    )


def _work(pid: int) -> Work:
    found = processes.stat_of(pid)
    if found is None:
        return Work()
    fields = found[1]
    # majflt is the 12th field, utime, stime, cutime, cstime are the 14th to 17th; these begin with the 3rd
    return Work(cpu_seconds=sum(map(int, fields[11:15])) / _TICK, faults=int(fields[9]), bytes=_bytes(pid))


def _bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/io", "rb") as file:  # noqa: PTH123 - slim
            return sum(map(int, _MOVED.findall(file.read())))
    except OSError:  # another user's, or one that may not be looked at
        return 0
