"""Groups of equal GPUs: an `Inventory` in, its usable GPUs by kind out, largest group first, and what is said of them.

Equal means the same product, cut into parts in the same way, with the same memory. Knows no recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aim_engine.hardware.inventory import Gpu, Inventory

Group = tuple[Gpu, ...]

_SAME_MEMORY = 0.01  # a driver reserves a little more here than there


def equal_groups(inventory: Inventory) -> tuple[Group, ...]:
    """The usable GPUs by kind, the largest group first: that of the most packages, since eight parts of one GPU are no
    more than that GPU; then that of the most devices, that with more memory, and the first.
    """
    groups: list[list[Gpu]] = []
    for gpu in sorted(inventory.usable_gpus, key=lambda one: one.index):
        home = next((group for group in groups if _equal(group[0], gpu)), None)
        if home is None:
            groups.append([gpu])
        else:
            home.append(gpu)
    groups.sort(key=lambda group: (-_packages(group), -len(group), -memory_of(group), group[0].index))
    return tuple(tuple(group) for group in groups)


def _packages(group: Sequence[Gpu]) -> int:
    """How many GPUs these are, the parts of one counted once; a part that nobody knows the package of counts alone."""
    return len({(gpu.package or gpu.index) if gpu.is_partition else gpu.index for gpu in group})


def memory_of(gpus: Sequence[Gpu]) -> int:
    """Bytes of all of them together; a memory that several share, each of them reporting all of it, counts once."""
    pools = {gpu.memory_pool: gpu.memory_bytes for gpu in gpus if gpu.memory_pool is not None}
    return sum(gpu.memory_bytes for gpu in gpus if gpu.memory_pool is None) + sum(pools.values())


def sharers(gpu: Gpu, gpus: Sequence[Gpu]) -> int:
    """How many of `gpus` (that it is one of) live in its memory: 1 where that is its own."""
    return 1 if gpu.memory_pool is None else sum(one.memory_pool == gpu.memory_pool for one in gpus)


def spread(group: Sequence[Gpu]) -> list[Gpu]:
    """The same GPUs in the order in which to take them: those with the most free memory first, in whole GiB, and of
    those that share a memory one in each before a second in any.
    """
    by_room = sorted(group, key=lambda gpu: (-(_free(gpu) >> 30), gpu.index))
    taken: Counter[str] = Counter()
    turns = []
    for place, gpu in enumerate(by_room):
        turn = taken[gpu.memory_pool] if gpu.memory_pool is not None else 0
        turns.append((turn, place))
        if gpu.memory_pool is not None:
            taken[gpu.memory_pool] += 1
    return [by_room[place] for _, place in sorted(turns)]


def in_words(group: Group) -> str:
    """ "4 x MI300X", "32 x MI300X (CPX/NPS4)"."""
    gpu = group[0]
    return f"{len(group)} x {gpu.product}" + (f" ({gpu.partition})" if gpu.is_partition else "")


def choice_in_words(inventory: Inventory, used: Sequence[Gpu]) -> str:
    """Where GPUs of several kinds are here: which of them serve, and why; else ""."""
    groups = equal_groups(inventory)
    if len(groups) < 2:
        return ""
    mine = next((group for group in groups if used and used[0] in group), None)
    if mine is None:
        return ""
    here = f"here are {' and '.join(in_words(group) for group in groups)}: the {in_words(mine)}"
    if mine is groups[0]:
        return f"{here}, the largest group of equal GPUs, are used"
    return f"{here} are used, though they are not the largest group of equal GPUs: no recipe fits that"


def _equal(one: Gpu, other: Gpu) -> bool:
    return (one.product, _mode(one)) == (other.product, _mode(other)) and (
        abs(one.memory_bytes - other.memory_bytes) <= _SAME_MEMORY * max(one.memory_bytes, other.memory_bytes)
    )


def _mode(gpu: Gpu) -> str:
    """The compute mode; the memory mode shows in the memory's size. A GPU that does not say is a whole one."""
    return (gpu.partition or "SPX").partition("/")[0]


def _free(gpu: Gpu) -> int:
    return gpu.memory_bytes if gpu.memory_free_bytes is None else gpu.memory_free_bytes
