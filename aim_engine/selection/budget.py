"""What an engine may take of each GPU: GPUs and the arguments' terms in, a share and bytes out. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aim_engine.catalog.terms import ServingTerms
from aim_engine.hardware.inventory import Gpu
from aim_engine.selection.groups import sharers


def has_room(gpu: Gpu, terms: ServingTerms) -> bool:
    """Whether the share that the arguments ask for is free of it; what nobody knows of is taken to be free."""
    if terms.host_memory or gpu.memory_free_bytes is None:
        return True
    return gpu.memory_free_bytes >= gpu.memory_bytes * terms.memory_fraction


def reduced_fraction(gpus: Sequence[Gpu], terms: ServingTerms) -> float | None:
    """The share of each GPU's memory that the engine must be told, in whole percents; None: as the arguments say.

    vLLM refuses to start when less than its share is free, so where others hold memory it is told what is free, with
    one percent to spare. Each device of a shared memory reports all of it, so its engine is told its part of that.
    """
    if terms.host_memory:
        return None
    if terms.static_share:  # it takes its share of what is free, so only a shared memory is to be divided
        most = max(sharers(gpu, gpus) for gpu in gpus)
        return None if most == 1 else max(1, math.floor(terms.memory_fraction * 100 / most)) / 100
    least = min(_percents(gpu, gpus, terms) for gpu in gpus)
    return None if least >= terms.memory_fraction * 100 else max(1, math.floor(least + 1e-9)) / 100


def budget_bytes(gpus: Sequence[Gpu], terms: ServingTerms, fraction: float | None) -> int:
    """What the engine may take of the tightest device: its share of the whole, but no more than is free."""
    return min(_budget(gpu, terms, fraction or terms.memory_fraction) for gpu in gpus)


def spare_bytes(gpus: Sequence[Gpu], terms: ServingTerms, fraction: float | None) -> int:
    """What the tightest device has beside the budget for what stands outside of the engine's share, where anything
    does.
    """
    if not terms.static_share:
        return 0
    return min(
        _free(gpu) // sharers(gpu, gpus) - _budget(gpu, terms, fraction or terms.memory_fraction) for gpu in gpus
    )


def _percents(gpu: Gpu, gpus: Sequence[Gpu], terms: ServingTerms) -> float:
    share = terms.memory_fraction
    free = 1.0 if gpu.memory_free_bytes is None else gpu.memory_free_bytes / gpu.memory_bytes
    percents = share * 100 if free >= share else math.floor(free * 100 - 1)
    return percents / sharers(gpu, gpus)


def _budget(gpu: Gpu, terms: ServingTerms, fraction: float) -> int:
    free = _free(gpu)
    if terms.host_memory or terms.static_share:
        return int(free * fraction)
    return min(int(gpu.memory_bytes * fraction), free)  # a shared memory is divided in the fraction already


def _free(gpu: Gpu) -> int:
    return gpu.memory_bytes if gpu.memory_free_bytes is None else gpu.memory_free_bytes
