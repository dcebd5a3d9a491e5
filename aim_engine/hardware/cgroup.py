"""The limits of the control groups this process is in: a root folder in, `CgroupLimits` out, for version 2 and 1.

A limit may sit on any level between the process's own group and the root, so every level is read and the tightest
wins (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst). Missing and damaged files mean "no limit".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Version 1 writes "no limit" as the largest number of whole pages; no machine comes near it.
_NO_LIMIT_BYTES = 2**60
_MAX_TEXT = 65536


@dataclass(frozen=True, kw_only=True)
class CgroupLimits:
    """None means unlimited. `memory_free_bytes` is what the tightest level still grants: its limit minus what cannot
    be reclaimed of what is used.
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None


# How each version calls its files: the limit, what is used, and in memory.stat the page cache not in active use.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def read_limits(root: Path) -> CgroupLimits:
    """What the control groups leave to this process (or, in a recorded tree, left to the recorded one)."""
    own_groups = _own_groups(root)
    memory = [*_memory(_levels(root, own_groups, ""), _V2), *_memory(_levels(root, own_groups, "memory"), _V1)]
    cpus = [*_cpus_v2(_levels(root, own_groups, "")), *_cpus_v1(_levels(root, own_groups, "cpu"))]
    return CgroupLimits(
        cpus=min(cpus, default=None),
        memory_bytes=min((limit for limit, _ in memory), default=None),
        memory_free_bytes=min((free for _, free in memory), default=None),
    )


def read_oom_kills(root: Path) -> int | None:
    """How many processes of our group the kernel has killed for want of memory, or None where it does not count them.

    Whichever limit above was reached, a kill is counted in the group of the process that was killed.
    """
    own_groups = _own_groups(root)
    for controller, name in (("", "memory.events"), ("memory", "memory.oom_control")):
        for level in _levels(root, own_groups, controller):
            if (text := read_text(level / name)) is not None:
                return _stat(text, "oom_kill")
    return None


def read_text(path: Path, *, most_bytes: int = _MAX_TEXT) -> str | None:
    """The start of a small file, or None when it cannot be read or is none.

    A recorded host may have a pipe or a device in a file's place, which would be waited for, or read, for ever. A file
    of the kernel's is a plain one, and gives a page at a time.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        read = bytearray()
        while len(read) < most_bytes and (piece := os.read(descriptor, most_bytes - len(read))):
            read += piece
        return read.decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _own_groups(root: Path) -> dict[str, tuple[str, PurePosixPath]]:
    """Controller → (its mount's folder name, this process's group); version 2 is the controller ""."""
    groups: dict[str, tuple[str, PurePosixPath]] = {}
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, group = rest.partition(":")
        if colon and group.startswith("/"):
            for controller in controllers.split(","):
                groups[controller] = (controllers, PurePosixPath(group))
    return groups


def _levels(root: Path, own_groups: dict[str, tuple[str, PurePosixPath]], controller: str) -> Iterator[Path]:
    """The folders from the process's own group up to the mount.

    Inside a container without its own cgroup namespace the path named is the host's, which is not below the mount;
    the container's group is then the mount itself, so walking up ends where the limits are.
    """
    folder, group = own_groups.get(controller, (controller, PurePosixPath("/")))
    if ".." in group.parts:  # a group outside of the namespace
        group = PurePosixPath("/")
    for mount in dict.fromkeys((folder, controller)):  # "cpu,cpuacct", or just "cpu"
        base = root / "sys/fs/cgroup" / mount
        if base.is_dir():
            for level in (group, *group.parents):
                yield base / level.relative_to("/")
            return


def _memory(levels: Iterator[Path], names: tuple[str, str, str]) -> Iterator[tuple[int, int]]:
    """(limit, free) of every level that limits anything."""
    limit_name, usage_name, inactive_name = names
    for level in levels:
        limit = _number(read_text(level / limit_name))
        if limit is None or limit >= _NO_LIMIT_BYTES:
            continue
        used = _number(read_text(level / usage_name)) or 0
        # The page cache of files once read counts as used, yet is given back on demand: the kubelet's "working set"
        # leaves it out in the same way.
        reclaimable = _stat(read_text(level / "memory.stat"), inactive_name)
        yield limit, max(0, limit - max(0, used - reclaimable))


def _cpus_v2(levels: Iterator[Path]) -> Iterator[float]:
    for level in levels:
        quota, _, period = (read_text(level / "cpu.max") or "").strip().partition(" ")
        yield from _cpus(_number(quota), _number(period))


def _cpus_v1(levels: Iterator[Path]) -> Iterator[float]:
    for level in levels:
        quota = _number(read_text(level / "cpu.cfs_quota_us"))
        yield from _cpus(quota, _number(read_text(level / "cpu.cfs_period_us")))


def _cpus(quota: int | None, period: int | None) -> Iterator[float]:
    if quota and period:
        yield quota / period


def _number(text: str | None) -> int | None:
    """A plain number; "max", "-1" and damage are None."""
    stripped = (text or "").strip()
    return int(stripped) if stripped.isascii() and stripped.isdigit() and len(stripped) <= 20 else None


def _stat(text: str | None, key: str) -> int:
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return _number(value) or 0
    return 0
