"""Processes, told apart for certain: a pid and the moment it started.

In: pids and process groups. Out: who is alive, who descends from whom, signals that never hit a stranger. Reads
/proc (proc(5)) and knows nothing of engines or plans.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
# Python's (multiprocessing), RCCL's (rccl/src/misc/shmutils.cc), vLLM's (v1/kv_offload, cpu_communicator.py)
_SEGMENT = re.compile(
    rb" (/dev/shm/(?:psm_|sem\.mp-|nccl-|vllm_)[^ /\n]+|/dev/shm/[^ /\n]+-cpushm[^ /\n]*)$", re.MULTILINE
)

_HELD = re.compile(rb"^(RssAnon|RssFile|RssShmem|VmSwap):\s+(\d+) kB$", re.MULTILINE)


class Identity(NamedTuple):
    """A process for certain: pids are used again, pids with a start time (clock ticks since the machine's boot) not."""

    pid: int
    start_ticks: int


class Process(NamedTuple):
    """One line of /proc/PID/stat, as much of it as is asked for here."""

    identity: Identity
    state: str
    parent: int
    group: int
    session: int


def stat_of(pid: int) -> tuple[bytes, list[bytes]] | None:
    """The name of a process, as the kernel keeps it, and the fields of /proc/PID/stat that follow it: the first is the
    third of proc(5), its state. None where there is no such process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - slim
            text = file.read()
    except OSError:
        return None
    # the name, in brackets, may hold spaces and brackets itself: proc(5)
    begin, end = text.index(b"("), text.rindex(b")")
    return text[begin + 1 : end], text[end + 2 :].split()


def look(pid: int) -> Process | None:
    """The process as it is now, or None."""
    found = stat_of(pid)
    if found is None:
        return None
    fields = found[1]
    return Process(Identity(pid, int(fields[19])), fields[0].decode(), *map(int, fields[1:4]))


def read_identity(path: str) -> Identity | None:
    """The identity that a file holds as `pid start_ticks`, or None."""
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - slim
            pid, start = file.read().split()
        return Identity(int(pid), int(start))
    except (OSError, ValueError):
        return None


def identify(pid: int) -> Identity | None:
    found = look(pid)
    return found.identity if found else None


def is_alive(identity: Identity | None) -> bool:
    """Runs still: there, the same one, and not a zombie."""
    if identity is None:
        return False
    found = look(identity.pid)
    return found is not None and found.identity == identity and found.state not in "ZX"


def everyone() -> dict[int, Process]:
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - slim
    return {process.identity.pid: process for process in found if process is not None}


def descendants(ancestor: int, *, without: Iterable[int] = ()) -> list[Process]:
    """Everything that descends from `ancestor`, itself not included, nor the branches that begin at `without`."""
    children: dict[int, list[Process]] = {}
    for process in everyone().values():
        children.setdefault(process.parent, []).append(process)
    left_out, found, open_ends = set(without), [], [ancestor]
    while open_ends:
        for child in children.pop(open_ends.pop(), ()):
            if child.identity.pid not in left_out:
                found.append(child)
                open_ends.append(child.identity.pid)
    return found


def send(identity: Identity, signum: int) -> bool:
    """Signal exactly this process; False when it is gone. A pid file descriptor rules out a pid that was used again."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return False
    try:
        if identify(identity.pid) != identity:
            return False
        signal.pidfd_send_signal(descriptor, signum)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def send_group(group: int, ancestor: int, signum: int) -> None:
    """Signal every member of a process group that descends from `ancestor`."""
    for process in descendants(ancestor):
        if process.group == group:
            send(process.identity, signum)


# It needs milliseconds; a restart waits for as long as it lives.
_TRACKER_SECONDS = 1.0


def end_all(
    find: Callable[[], list[Process]], *, pause: Callable[[float], None] = time.sleep, limit: float = 5
) -> bool:
    """KILL what `find` finds until it finds nothing. True when that was reached within `limit` seconds.

    Python's resource tracker is spared at first: it unlinks the shared memory and semaphores that its dead parents
    left behind, and ends by itself when the last of them is gone (multiprocessing/resource_tracker.py). KILLing it
    together with the others would leak them.
    """
    deadline = time.monotonic() + limit
    patience = time.monotonic() + _TRACKER_SECONDS
    while living := [process for process in find() if process.state not in "ZX"]:
        others = [process for process in living if not _is_tracker(process.identity.pid)]
        if others:
            patience = time.monotonic() + _TRACKER_SECONDS
        for process in living if time.monotonic() > patience else others:
            send(process.identity, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        pause(0.02)
    return True


def _is_tracker(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - slim
            return b"multiprocessing.resource_tracker" in file.read()
    except OSError:
        return False


def segments_of(pids: Iterable[int]) -> set[str]:
    """The shared memory that libraries made, by its names, and these processes have mapped."""
    found: set[str] = set()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:  # noqa: PTH123 - slim
                found.update(os.fsdecode(path) for path in _SEGMENT.findall(file.read()))
        except OSError:
            continue
    return found


def remove_segments(paths: Iterable[str]) -> list[str]:
    """Unlink those of `paths` that nobody maps any more, and say which.

    `paths` must have been seen in our own processes: with --ipc=host, /dev/shm is shared with containers whose
    processes are not visible here, so neither owner nor age nor "nobody maps it" tells ours from theirs.
    """
    wanted = {path for path in paths if os.path.exists(path)}  # noqa: PTH110 - slim
    removed = []
    for path in wanted - segments_of(everyone()) if wanted else ():
        try:
            if os.lstat(path).st_uid == os.getuid():
                os.unlink(path)  # noqa: PTH108 - slim
                removed.append(path)
        except OSError:
            continue
    return removed


def resident_bytes(group: int) -> int | None:
    """What a process group holds of the machine's memory, swapped out or not; None where nothing can be read.

    Each one's own pages are added up. Of what several may have mapped alike, libraries and shared memory, the most of
    any counts once. /proc/PID/status (proc_pid_status(5)) tells both without walking the pages.
    """
    held = [_held(process.identity.pid) for process in everyone().values() if process.group == group]
    read = [one for one in held if one]
    if not read:
        return None
    own = sum(one.get(name, 0) for one in read for name in ("RssAnon", "VmSwap"))
    return own + sum(max(one.get(name, 0) for one in read) for name in ("RssFile", "RssShmem"))


def _held(pid: int) -> dict[str, int]:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - slim
            return {name.decode(): int(size) * 1024 for name, size in _HELD.findall(file.read())}
    except OSError:
        return {}


def become_subreaper() -> None:
    """Orphans among our descendants become our children (prctl(2)); pid 1 gets them anyway."""
    if os.getpid() != 1:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, signum: int) -> None:
    """Be signalled when the parent ends; at once if it is gone already."""
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def _prctl(option: int, value: int) -> None:
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass  # a comfort: the sweep at the end does not depend on it
