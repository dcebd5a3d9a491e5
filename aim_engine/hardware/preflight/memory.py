"""Pre-flight checks of memory: the GPUs' own and who holds it, shared memory, the host's, and what may be locked.

In: `Needs` and a `Site`. Out: one `Check` each. Knows no driver.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from aim_engine.hardware.cgroup import read_limits, read_text
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.preflight.check import (
    DISK,
    MEMORY,
    Check,
    Needs,
    Site,
    failure,
    in_words,
    ok,
    skipped,
    warning,
)

_MIB, _GIB = 2**20, 2**30
Memory = tuple[Gpu, ...]  # those that live in one
_SHM = "/dev/shm"  # noqa: S108 - looked at, not written

# What vLLM 0.32 lays into /dev/shm: ring buffers of 160 MiB, and 240 MiB more for each worker
# (v1/executor/multiproc_executor.py, shm_broadcast.py). Below that a start ends in a bus error or "No space left on
# device" (vllm-project/vllm issue 37982); RCCL adds its own.
_SHM_LEAST = 160 * _MIB
_SHM_OF_WORKER = 240 * _MIB
# AMD's examples give 16 to 128 GB for eight GPUs (rocm.docs.amd.com, vLLM inference): 2 GiB a GPU, and never less than
# 8. It is a limit, not a reservation.
_SHM_ADVICE_OF_GPU, _SHM_ADVICE = 2 * _GIB, 8 * _GIB

# vLLM takes 0.90 or 0.92 of a GPU unless it is told otherwise, and refuses to start where less is free.
_MOSTLY_FREE = 0.9
# RCCL registers buffers of some MiB for each channel and peer; kernels grant 8 MiB to whom nobody gave more.
_LOCKED_LEAST = 64 * _MIB
_CAP_IPC_LOCK = 1 << 14  # linux/capability.h


def gpu_memory(needs: Needs, site: Site) -> Check:
    """Is as much of every GPU's memory free as the plan will take? Names who holds the rest."""
    del site
    known = [gpu for gpu in needs.accelerators if gpu.memory_free_bytes is not None]
    if not known:
        return skipped("GPU memory", "how much is free is not known" if needs.accelerators else "no GPU is to be used")
    budget, memories = needs.budget_bytes or 0, _memories(known)
    short = [memory for memory in memories if _free(memory[0]) < budget * len(memory)]
    if short:
        sentence = "; ".join(f"{_held(memory)}, and the plan takes {_taken(memory, budget)}" for memory in short)
        return failure("GPU memory", MEMORY, sentence, _stop_holders(short))
    held = [memory for memory in memories if _free(memory[0]) < memory[0].memory_bytes * _MOSTLY_FREE]
    if held:
        return warning("GPU memory", "; ".join(_held(memory) for memory in held), _stop_holders(held))
    return ok("GPU memory", _all_free(memories))


def shared_memory(needs: Needs, site: Site) -> Check:
    """Is /dev/shm there, and large enough for workers that exchange tensors through it? One worker alone needs next to
    none, but not nothing.
    """
    workers, folder = needs.tensor_parallel_size, site.path(_SHM)
    kept = "every engine keeps semaphores and buffers"
    if not folder.is_dir():
        remedy = _mounted("--ipc none", f"sudo mount -t tmpfs -o mode=1777 --mkdir tmpfs {_SHM}", workers, site)
        return failure("shared memory", DISK, f"there is no {_SHM}, in which {kept}", remedy)
    if not site.may_use(folder):
        remedy = _mounted("what mounts it so", f"sudo mount -o remount,rw,mode=1777 {_SHM}", workers, site)
        return failure("shared memory", DISK, f"{_SHM} cannot be written by uid {site.uid}, and {kept} in it", remedy)
    if workers < 2:
        return ok("shared memory", f"{_SHM} is here, and one GPU alone needs next to none of it")
    space = site.space(folder)
    least = _SHM_LEAST + workers * _SHM_OF_WORKER
    if space.size_bytes == 0 or space.free_bytes >= workers * _GIB:
        free = "as much as there is memory" if space.size_bytes == 0 else in_words(space.free_bytes)
        return ok("shared memory", f"{_SHM} has {free} free")
    left = _leftovers(folder)
    full = bool(left) and space.size_bytes >= least
    sentence = f"{_SHM} has {in_words(space.free_bytes)} free of {in_words(space.size_bytes)}"
    sentence += f", and {workers} GPUs that work together need {in_words(least)} and more"
    sentence += f"; {left}" if full else ""
    remedy = _larger(workers, site)
    if full:
        remedy = f"remove what no process uses (fuser /dev/shm/* names the users), or {remedy}"
    if space.free_bytes < least and needs.planned:
        return failure("shared memory", DISK, sentence, remedy)
    return warning("shared memory", sentence, remedy)


def host_memory(needs: Needs, site: Site) -> Check:
    """Do the weights fit into the host's memory while they are read?"""
    size = needs.checkpoint.size_bytes if needs.checkpoint else None
    if not needs.accelerators or size is None:
        return skipped("host memory", "no weights of a known size are to be loaded into a GPU")
    available = _available(site)
    if available is None:
        return skipped("host memory", "/proc/meminfo does not say how much is available")
    if available >= size:
        return ok("host memory", f"{in_words(available)} are available for reading {in_words(size)} of weights")
    return warning(
        "host memory",
        f"{in_words(size)} of weights are read through {in_words(available)} of available memory: a slow start, and "
        "under a memory limit a killed one",
        "give the container more memory, or stop what holds it",
    )


def locked_memory(needs: Needs, site: Site) -> Check:
    """May as much memory be locked as GPUs that work together register with each other?"""
    if len(needs.accelerators) < 2:
        return skipped("locked memory", "fewer than two GPUs are to be used")
    limit = site.memlock_bytes
    if limit is None or limit >= _LOCKED_LEAST or _may_lock_all(site):
        return ok("locked memory", "enough of it may be locked")
    remedy = "start the container with --ulimit memlock=-1"
    if not site.in_container:
        remedy = "ulimit -l unlimited (and memlock unlimited in /etc/security/limits.conf)"
    elif site.in_kubernetes:
        remedy = "raise LimitMEMLOCK of the node's container runtime"
    return warning("locked memory", f"only {in_words(limit)} may be locked: RCCL may fail to register its buffers",
                   remedy)  # fmt: skip


def _memories(gpus: Sequence[Gpu]) -> list[Memory]:
    """The GPUs by the memory they live in, each of those that share one reporting all of it."""
    found: dict[str, list[Gpu]] = {}
    for gpu in gpus:
        found.setdefault(gpu.memory_pool or f"of GPU {gpu.index} alone", []).append(gpu)
    return [tuple(members) for members in found.values()]


def _all_free(memories: Sequence[Memory]) -> str:
    """A figure for each kind of GPU: the least that is free of any."""
    kinds: dict[tuple[str, bool, bool], list[Memory]] = {}
    for memory in memories:
        first = memory[0]
        kinds.setdefault((first.product, first.is_partition, first.memory_pool is not None), []).append(memory)
    several = len(kinds) > 1
    figures = []
    for (product, part, shared), members in kinds.items():
        free = in_words(min(_free(memory[0]) for memory in members))
        if shared:
            sharers = sum(len(memory) for memory in members)
            where = "the memory" if len(members) == 1 else f"each of the {len(members)} memories"
            figures.append(f"{free} are free of {where} that {sharers} partitions of {product} share")
        else:
            kind = f"partition of {product}" if part else product if several else "GPU"
            figures.append(f"{free} of each {kind}" + ("" if several else " are free"))
    return " and ".join(figures) + (" are free" if several and not figures[-1].endswith("share") else "")


def _free(gpu: Gpu) -> int:
    return gpu.memory_free_bytes or 0


def _taken(memory: Memory, budget: int) -> str:
    return f"{len(memory)} x {in_words(budget)} of it" if len(memory) > 1 else f"{in_words(budget)} of each"


def _held(memory: Memory) -> str:
    first = memory[0]
    name = first.name
    if first.memory_pool is not None:
        verb = "shares" if len(memory) == 1 else "share"
        name = f"the memory of {first.memory_pool} that {len(memory)} partition{'' if len(memory) == 1 else 's'} {verb}"
    return f"{name}: {in_words(_free(first))} of {in_words(first.memory_bytes)} are free, {_holders(memory)}"


def _holders(memory: Memory) -> str:
    """Who holds the most of it, by name."""
    by_pid = {holder.pid: holder for gpu in memory for holder in gpu.holders}
    largest = sorted(by_pid.values(), key=lambda holder: -holder.memory_bytes)
    if not largest:
        return "the rest is held by processes that cannot be seen from here"
    shown = [f"{one.name or 'a process'} (pid {one.pid}) holds {in_words(one.memory_bytes)}" for one in largest[:3]]
    return ", ".join(shown) + (f", and {len(largest) - 3} others" if len(largest) > 3 else "")


def _stop_holders(memories: Sequence[Memory]) -> str:
    pids = sorted({holder.pid for memory in memories for gpu in memory for holder in gpu.holders})
    if not pids:
        return "on the host, amd-smi process names them: stop them, or use other GPUs"
    return f"stop pid {', '.join(map(str, pids))}, or use other GPUs"


def _mounted(cause: str, on_host: str, workers: int, site: Site) -> str:
    """What brings a shared memory that can be used: leaving out what took it away, or a command."""
    if site.in_kubernetes:
        return _larger(workers, site)
    return f"leave out {cause}; {_larger(workers, site)}" if site.in_container else on_host


def _larger(workers: int, site: Site) -> str:
    size = max(_SHM_ADVICE, workers * _SHM_ADVICE_OF_GPU) // _GIB
    if site.in_kubernetes:
        return f"mount an emptyDir at /dev/shm: {{medium: Memory, sizeLimit: {size}Gi}}"
    if site.in_container:
        return f"start the container with --shm-size {size}g, or with --ipc=host"
    return f"sudo mount -o remount,size={size}G /dev/shm; for a container: --shm-size {size}g, or --ipc=host"


def _leftovers(folder: Path) -> str:
    """What lies in /dev/shm, largest first; "" where that is next to nothing."""
    found = sorted(_sizes(folder), reverse=True)
    total = sum(size for size, _ in found)
    if total < _SHM_OF_WORKER:
        return ""
    names = ", ".join(name for _, name in found[:3]) + (", ..." if len(found) > 3 else "")
    return f"{in_words(total)} are taken by {len(found)} files in it ({names})"


def _sizes(folder: Path) -> Iterator[tuple[int, str]]:
    """By what they take, not by what they claim: such files are often sparse."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry.stat(follow_symlinks=False).st_blocks * 512, entry.name


def _available(site: Site) -> int | None:
    """What the kernel could give out, cut down to what the control groups still grant."""
    free = read_limits(site.root).memory_free_bytes
    for line in (read_text(site.path("/proc/meminfo")) or "").splitlines():
        name, _, text = line.partition(":")
        number = text.strip().removesuffix("kB").strip()
        if name == "MemAvailable" and number.isascii() and number.isdigit() and len(number) < 20:
            available = int(number) * 1024
            return available if free is None else min(available, free)
    return free


def _may_lock_all(site: Site) -> bool:
    for line in (read_text(site.path("/proc/self/status")) or "").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.partition(":")[2], 16) & _CAP_IPC_LOCK)
    return False
