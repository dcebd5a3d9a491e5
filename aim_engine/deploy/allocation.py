"""Which GPUs are free: an inventory and the endpoints of its host in; who holds each GPU, and the inventory with the
held ones unusable, out.

Pure. What holds a GPU is a container of ours that names it in its labels or was given its device file, or any process
that keeps more than a little of its memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from aim_engine.deploy.devices import holds_alone
from aim_engine.deploy.endpoints import Endpoint
from aim_engine.errors import AimError, NoAcceleratorError
from aim_engine.hardware.inventory import Gpu, Inventory

_MIB, _GIB = 2**20, 2**30

# Memory in use that does not make a GPU a held one. An idle MI300X reports 283 MiB for its driver and firmware
# (rocm.docs.amd.com, amd-smi and rocm-smi examples), a process that merely has a HIP context some hundred MiB more; an
# engine takes nine tenths of all. Of a small GPU 2 GiB would be a lot, so never more than a tenth.
A_LITTLE_BYTES = 2 * _GIB
A_LITTLE_PART = 0.1

# As the kernel, lspci (without the domain) or NVIDIA (with eight digits of it) write it.
_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])")


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """`held` says for each GPU's index who holds it; `inventory` is the same one with these GPUs unusable. `cautions`
    are sentences about containers that do not say which GPUs they have.
    """

    inventory: Inventory
    held: Mapping[int, str]
    cautions: tuple[str, ...] = ()

    @property
    def free(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.inventory.usable_gpus if holds_alone(gpu))

    def busy(self, error: AimError, asked: int | None) -> AimError:
        """The error of a plan that found too few GPUs, with who holds the others; any other error as it is."""
        if not self.held or not isinstance(error, NoAcceleratorError):
            return error
        details = tuple(f"GPU {index}: {why}" for index, why in sorted(self.held.items()))
        wanted = (
            f"{asked} {'GPU was' if asked == 1 else 'GPUs were'} asked for" if asked else "at least one GPU is needed"
        )
        there = len(self.held) + len(self.free)
        return NoAcceleratorError(
            f"{wanted}, and {len(self.free)} of {there} {'is' if len(self.free) == 1 else 'are'} free",
            hint="aim-engine stop NAME frees the GPUs of an endpoint; or ask for fewer",
            details=details,
        )


def allocate(inventory: Inventory, endpoints: Iterable[Endpoint]) -> Allocation:
    """Say of every usable GPU whether it is free.

    Raises:
        NoAcceleratorError: a container has GPUs, and nothing tells which, so that none is known to be free.
    """
    running = [one for one in endpoints if not one.has_ended]
    held = {
        gpu.index: why
        for gpu in inventory.usable_gpus
        if holds_alone(gpu) and (why := _holder(gpu, _owner(gpu, running, inventory)))
    }
    gpus = tuple(replace(gpu, unusable=held.get(gpu.index, gpu.unusable)) for gpu in inventory.gpus)
    unclear = [one for one in running if _is_vague(one, inventory)]
    found = Allocation(
        inventory=replace(inventory, gpus=gpus),
        held=held,
        cautions=tuple(text for one in unclear if (text := _caution(one, inventory))),
    )
    hidden = [one for one in unclear if one.gpu_count and not any(_was_given(one, gpu) for gpu in inventory.gpus)]
    if hidden and found.free:
        raise _unknown(hidden)
    return found


def _owner(gpu: Gpu, running: Sequence[Endpoint], inventory: Inventory) -> Endpoint | None:
    return next((one for one in running if _has(one, gpu, inventory)), None)


def _has(one: Endpoint, gpu: Gpu, inventory: Inventory) -> bool:
    """By name, or by its device file; the folder of all files counts only where the names do not say enough."""
    named = {_plain(name) for name in one.gpus} & _names(gpu)
    return bool(named) or gpu.render_node in one.devices or (_is_vague(one, inventory) and _was_given(one, gpu))


def _was_given(one: Endpoint, gpu: Gpu) -> bool:
    node = PurePosixPath(gpu.render_node) if gpu.render_node else None
    return node is not None and any(node.is_relative_to(path) for path in one.devices if path.startswith("/dev/"))


def _is_vague(one: Endpoint, inventory: Inventory) -> bool:
    """Whether it names fewer GPUs than it has. An address that is none of this inventory's is a name too."""
    known = set[str]().union(*map(_names, inventory.gpus))
    named = [name for name in map(_plain, one.gpus) if name in known or _ADDRESS.fullmatch(name)]
    return len(named) < max(one.gpu_count, 1)


def _names(gpu: Gpu) -> set[str]:
    return {_plain(name) for name in (gpu.pci_address, gpu.uuid) if name}


def _plain(name: str) -> str:
    """An address as the kernel writes it, whoever wrote it; another name in lower case."""
    text = name.strip().lower()
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return text
    domain, bus, device = (int(part or "0", 16) for part in found.groups()[:3])
    return f"{domain:04x}:{bus:02x}:{device:02x}.{found[4]}"


def _caution(one: Endpoint, inventory: Inventory) -> str:
    given = [str(gpu.index) for gpu in inventory.usable_gpus if holds_alone(gpu) and _was_given(one, gpu)]
    if not given:
        return ""
    which = f"GPU{'s' * (len(given) > 1)} {', '.join(given)}"
    return f"the container {one.name} does not say which GPUs it has: {which} count as its, by the devices it was given"


def _unknown(hidden: Sequence[Endpoint]) -> NoAcceleratorError:
    names = " ".join(one.name for one in hidden)
    return NoAcceleratorError(
        "a container says that it has GPUs, and not which: so none is known to be free",
        hint=f"aim-engine stop {names}; one that is made by hand needs the label ai.aim-engine.gpus=ADDRESS,...",
        details=tuple(
            f"the container {one.name} ({one.model or 'a model'}, {one.state}) says {one.gpu_count}, and was given no "
            "device file of a GPU that is known here"
            for one in hidden
        ),
    )


def _holder(gpu: Gpu, owner: Endpoint | None) -> str | None:
    if owner is not None:
        return f"the container {owner.name} has it ({owner.model or 'a model'}, {owner.state})"
    little = min(A_LITTLE_BYTES, int(gpu.memory_bytes * A_LITTLE_PART))
    big = [one for one in gpu.holders if one.memory_bytes > little]
    if big:
        who = ", ".join(f"pid {one.pid} ({one.name or 'of unknown name'}, {_size(one.memory_bytes)})" for one in big)
        return f"{who} uses its memory"
    # the partitions of a package that share one memory all report the same: it says nothing of one of them
    if gpu.memory_free_bytes is None or gpu.memory_pool is not None:
        return None
    used = gpu.memory_bytes - gpu.memory_free_bytes
    return f"{_size(used)} of its memory are in use, by whom is not known" if used > little else None


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:,.1f} GiB" if size_bytes >= _GIB else f"{size_bytes / _MIB:,.0f} MiB"
