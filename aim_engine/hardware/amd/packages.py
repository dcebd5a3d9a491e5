"""What AMD's devices share: partitions of one package, a package's memory, links between packages.

In: GPUs as a layer found them. Out: the same GPUs with `package`, `memory_pool` and `xgmi_peers`. Asks nobody. No AMD
GPU was at hand: the rules are from AMD's documents and the driver's source, and marked where they are inferred.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import Product

Link = tuple[int, int]

# Into how many compute partitions a mode cuts a package; CPX: one for each of its dies, 4 to 8 of them.
_PARTS = {"SPX": 1, "DPX": 2, "TPX": 3, "QPX": 4}
_ROOM = 1.05  # what a driver keeps for itself makes sizes differ a little


def package_of(address: str | None, mode: str | None, partition_id: int | None) -> str | None:
    """The PCI address of the package: a partition's number is in the function's digit (rocm-systems issue 5805).

    A whole GPU's address is its own, whatever its function: a virtual function may have any.
    """
    whole = mode in (None, "SPX") and not partition_id
    return address if address is None or whole else f"{address[:-1]}0"


def with_pools(gpus: Sequence[Gpu], products: Sequence[Product | None]) -> list[Gpu]:
    """The GPUs with the memory pools that they share; `products` has the product of each, where it is known."""
    members: dict[str, list[Gpu]] = {}
    for gpu in gpus:
        members.setdefault(gpu.package or "?", []).append(gpu)
    return [_with_pool(gpu, product, members[gpu.package or "?"]) for gpu, product in zip(gpus, products, strict=True)]


def _with_pool(gpu: Gpu, product: Product | None, members: Sequence[Gpu]) -> Gpu:
    """Partitions share a pool where a package has more of them than memory domains (the N of NPS<N>).

    The driver may cap each of them at its share (compute_partition_mem_alloc_mode in /sys): its memory is then as good
    as its own, so it counts as shared only where it reports more than that. Inferred, as is which of the domains a
    partition's memory is in: they are taken to be filled in the order of the partitions.
    """
    parts, domains = _parts(gpu, product, members), _domains(gpu)
    if parts == 1:
        return gpu
    total = product.memory_bytes if product else None
    if domains is None:  # the modes are hidden from a guest: what cannot fit side by side must be shared
        return replace(gpu, memory_pool=gpu.package) if total and _more_than(gpu, total / parts) else gpu
    if total and _more_than(gpu, total / domains):
        gpu = _cut_down(gpu, total // domains)
    if parts <= domains or (total and not _more_than(gpu, total / parts)):
        return gpu
    name = gpu.package or gpu.unique_id or "unknown"
    return replace(gpu, memory_pool=f"{name}/{(gpu.partition_id or 0) * domains // parts}" if domains > 1 else name)


def _parts(gpu: Gpu, product: Product | None, members: Sequence[Gpu]) -> int:
    """How many partitions the package has, those that are hidden from us included where that can be known."""
    mode = (gpu.partition or "").partition("/")[0]
    if mode in _PARTS:
        return _PARTS[mode]
    seen = max((member.partition_id or 0) for member in members) + 1 if gpu.package else 1
    if product and product.compute_units and gpu.compute_units:
        return max(seen, round(product.compute_units / gpu.compute_units))
    return max(seen, len(members)) if gpu.package else seen


def _domains(gpu: Gpu) -> int | None:
    number = (gpu.partition or "").partition("/NPS")[2]
    return int(number) if number in ("1", "2", "4", "8") else None


def _more_than(gpu: Gpu, size: float) -> bool:
    return gpu.memory_bytes > size * _ROOM


def _cut_down(gpu: Gpu, size: int) -> Gpu:
    """Before ROCm 6.4.1 amdsmi gave each partition the whole package's memory, which no domain of it has."""
    free = gpu.memory_free_bytes
    return replace(gpu, memory_bytes=size, memory_free_bytes=None if free is None else min(free, size))


def with_peers(gpus: Sequence[Gpu], links: Iterable[Link]) -> list[Gpu]:
    """The GPUs with those one XGMI hop away, by index.

    `links` are pairs of places in `gpus`, in either direction. One between two packages holds for all their partitions;
    the partitions of one package are not each other's peers, whatever a layer calls what is between them.
    """
    packages: dict[str, list[int]] = {}
    for place, gpu in enumerate(gpus):
        packages.setdefault(_key(gpu, place), []).append(place)
    peers: Mapping[int, set[int]] = {place: set() for place in range(len(gpus))}
    pairs = {tuple(sorted(_key(gpus[end], end) for end in link)) for link in links}
    for one, other in (pair for pair in pairs if pair[0] != pair[1]):
        for place in packages[one]:
            peers[place].update(packages[other])
        for place in packages[other]:
            peers[place].update(packages[one])
    return [
        replace(gpu, xgmi_peers=tuple(sorted(gpus[peer].index for peer in peers[place])))
        for place, gpu in enumerate(gpus)
    ]


def _key(gpu: Gpu, place: int) -> str:
    return gpu.package or f"#{place}"
