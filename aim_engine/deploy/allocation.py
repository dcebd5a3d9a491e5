"""Which GPUs are free: an inventory and the endpoints of its host in; who holds each GPU, and the inventory with the
held ones unusable, out.

Pure. What holds a GPU is a container of ours that names it in its labels, or any process that keeps more than a little
of its memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """`held` says for each GPU's index who holds it; `inventory` is the same one with these GPUs unusable."""

    inventory: Inventory
    held: Mapping[int, str]

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
    """Say of every usable GPU whether it is free."""
    owners = {name.lower(): one for one in endpoints if not one.has_ended for name in one.gpus}
    held = {gpu.index: why for gpu in inventory.usable_gpus if holds_alone(gpu) and (why := _holder(gpu, owners))}
    gpus = tuple(replace(gpu, unusable=held.get(gpu.index, gpu.unusable)) for gpu in inventory.gpus)
    return Allocation(inventory=replace(inventory, gpus=gpus), held=held)


def _holder(gpu: Gpu, owners: Mapping[str, Endpoint]) -> str | None:
    names = (name.lower() for name in (gpu.pci_address, gpu.uuid) if name)
    owner = next((owners[name] for name in names if name in owners), None)
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
