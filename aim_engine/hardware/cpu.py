"""The host's own CPU: surroundings in, a `Host` and a `Finding` out, with this process's limits already applied.

Reads /proc, /sys and the control groups below the surroundings' root; whatever is missing or damaged becomes a note.
Knows no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from aim_engine.hardware.cgroup import CgroupLimits, read_limits, read_text
from aim_engine.hardware.inventory import Finding, Gpu, Host, Surroundings

# The names the kernel gives them (Documentation/arch/x86/cpuinfo.rst, Documentation/arch/arm64/elf_hwcaps.rst) and
# that decide which kernels a CPU engine has.
X86_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile")
ARM_FLAGS = ("asimd", "bf16", "sve", "i8mm")
_FIRST_CORE_BYTES = 16384  # it has about 2000; all of 8192 cores would be slow to produce
_MAX_CORES = 8192


class CpuDetector:
    """The CPU as an accelerator of last resort: one `Gpu` named CPU whose memory is the host's."""

    name = "cpu"
    vendor = "cpu"

    def detect(self, surroundings: Surroundings) -> Finding:
        host, notes = survey_host(surroundings)
        if host.memory_bytes <= 0:
            return Finding(source=self.name, reason="the host's memory size cannot be read", notes=notes)
        cpu = Gpu(
            index=0,
            product="CPU",
            vendor="cpu",
            memory_bytes=host.memory_bytes,
            memory_free_bytes=host.memory_available_bytes,
        )
        return Finding(source=self.name, gpus=(cpu,), notes=notes)


def read_host(surroundings: Surroundings) -> Host:
    """The machine around the accelerators, with what this process may use of it."""
    return survey_host(surroundings)[0]


def survey_host(surroundings: Surroundings) -> tuple[Host, tuple[str, ...]]:
    """`read_host`, and one sentence for everything that could not be read."""
    look = _Look(surroundings)
    limits = read_limits(surroundings.root)
    core_ids = look.core_ids()
    total, available = look.memory(limits)
    host = Host(
        cores=_cores(len(core_ids), limits.cpus),
        numa_nodes=look.numa_nodes(core_ids),
        memory_bytes=total,
        memory_available_bytes=available,
        architecture=look.architecture(),
        isa=look.isa(),
        # a limit above the memory that is there limits nothing
        cgroup_memory_limit_bytes=limits.memory_bytes if limits.memory_bytes == total else None,
        cgroup_cpu_limit=limits.cpus,
    )
    return host, tuple(look.notes)


def _cores(allowed: int, quota: float | None) -> int:
    """Whole cores: more threads than the quota pays for would only be throttled."""
    return max(1, allowed if quota is None else min(allowed, int(quota)))


class _Look:
    """One look at one host, collecting what it could not see."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self.notes: list[str] = []

    @property
    def root(self) -> Path:
        return self.surroundings.root

    def core_ids(self) -> frozenset[int]:
        """The cores this process may be scheduled on (which honours cpusets), or in a recorded tree those online."""
        if self.surroundings.is_live:
            return frozenset(os.sched_getaffinity(0))
        online = parse_cpu_list(read_text(self.root / "sys/devices/system/cpu/online") or "")
        if not online:
            self.notes.append("the number of CPU cores cannot be read; one is assumed")
        return online or frozenset((0,))

    def numa_nodes(self, core_ids: frozenset[int]) -> int:
        nodes = self.root.glob("sys/devices/system/node/node[0-9]*/cpulist")
        used = sum(1 for node in nodes if parse_cpu_list(read_text(node) or "") & core_ids)
        if used == 0:
            self.notes.append("the NUMA nodes cannot be read; one is assumed")
        return max(1, used)

    def memory(self, limits: CgroupLimits) -> tuple[int, int]:
        """(total, available) in bytes: the host's, cut down to the control groups' limits."""
        sizes = dict(_meminfo(read_text(self.root / "proc/meminfo") or ""))
        total, available = sizes.get("MemTotal", 0), sizes.get("MemAvailable", sizes.get("MemFree"))
        if total <= 0 and self.surroundings.is_live:
            total = _ask_system_memory()
        if total <= 0 and limits.memory_bytes is not None:
            total = limits.memory_bytes
        if total <= 0 or available is None:
            self.notes.append("/proc/meminfo cannot be read; the memory's size or what is free of it is assumed")
        if limits.memory_bytes is not None:
            total = min(total, limits.memory_bytes)
        frees = [free for free in (available, limits.memory_free_bytes, total) if free is not None]
        return total, max(0, min(frees))

    def architecture(self) -> str:
        if self.surroundings.is_live:
            return os.uname().machine
        keys = {key for key, _ in self._first_core()}
        return "aarch64" if "Features" in keys else "x86_64" if "flags" in keys else "unknown"

    def isa(self) -> tuple[str, ...]:
        for key, value in self._first_core():
            if key in ("flags", "Features"):
                present = set(value.split())
                return tuple(flag for flag in (X86_FLAGS if key == "flags" else ARM_FLAGS) if flag in present)
        self.notes.append("/proc/cpuinfo names no instruction sets")
        return ()

    def _first_core(self) -> Iterator[tuple[str, str]]:
        """The "key : value" lines of the first core; the kernel writes the file as it is read, so read little."""
        text = read_text(self.root / "proc/cpuinfo", most_bytes=_FIRST_CORE_BYTES) or ""
        for line in text.splitlines():
            key, _, value = line.partition(":")
            yield key.strip(), value


def parse_cpu_list(text: str) -> frozenset[int]:
    """The kernel's list format, "0-3,8,10-11", as a set; a damaged part is left out."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        bounds = _whole(low), _whole(high or low)
        if bounds[0] is not None and bounds[1] is not None and bounds[1] < _MAX_CORES:
            cores.update(range(bounds[0], bounds[1] + 1))
    return frozenset(cores)


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _meminfo(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        number = _whole(value.strip().removesuffix("kB").strip())
        if number is not None:
            yield key, number * 1024


def _ask_system_memory(sysconf: Callable[[str], int] = os.sysconf) -> int:
    try:
        return sysconf("SC_PHYS_PAGES") * sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
