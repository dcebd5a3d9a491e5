"""Which GPUs reach each other without PCIe: GPUs with their XGMI peers in, hives out, as values and in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aim_engine.hardware.inventory import Gpu

Hive = tuple[Gpu, ...]


def hives(gpus: Sequence[Gpu]) -> tuple[Hive, ...]:
    """Those linked to each other, directly or over others of `gpus`; partitions of one package are. One that is linked
    to none is a hive of its own.
    """
    found: list[list[Gpu]] = []
    for gpu in gpus:
        linked = [hive for hive in found if any(_linked(gpu, one) for one in hive)]
        joined = [gpu, *(one for hive in linked for one in hive)]
        found = [hive for hive in found if hive not in linked] + [joined]
    ordered = (tuple(sorted(hive, key=lambda gpu: gpu.index)) for hive in found)
    return tuple(sorted(ordered, key=lambda hive: hive[0].index))


def xgmi_in_words(gpus: Sequence[Gpu]) -> str:
    """ "0-3, 4-7" by the engine's numbers; "" where no GPU that it sees has a peer among them."""
    seen = [gpu for gpu in gpus if gpu.usable]
    linked = [hive for hive in hives(seen) if has_links(hive)]
    return ", ".join(in_ranges([gpu.index for gpu in hive]) for hive in linked)


def has_links(hive: Hive) -> bool:
    """Whether any of it is an XGMI peer of another: partitions of one package are not."""
    members = {gpu.index for gpu in hive}
    return any(members & {*gpu.xgmi_peers} for gpu in hive)


def in_ranges(numbers: Iterable[int]) -> str:
    """ "0-2,5" for 0, 1, 2 and 5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _linked(one: Gpu, other: Gpu) -> bool:
    together = one.package is not None and one.package == other.package
    return together or other.index in one.xgmi_peers or one.index in other.xgmi_peers
