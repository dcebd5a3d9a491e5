"""Which of AMD's GPUs an engine counts, and in which order: GPUs as a layer found them in, their places and notes out.

ROCm's runtime counts the KFD nodes in their order, and only those that are ours: it passes over a node that may not be
read and one whose render node is not in our /dev (libhsakmt's topology.c, topology_sysfs_check_node_supported; read
there, not tried on a GPU). A render node that is there and closed to us is, by the same source, not passed over but an
error of the whole start. Such a GPU is not counted either: whichever of the two a version does, no engine is given a
number that its runtime does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import Product

NO_SIZE = "the size of its memory is unknown"
_ODD_SIZE = "the size of its memory cannot be right"
_SMALLEST_BYTES = 1 << 20
_ROOM = 2  # no product is built with twice the memory that we know it with


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One GPU as a layer saw it: what it is, and why the runtime does not count it (or "")."""

    gpu: Gpu
    product: Product | None
    not_counted: str = ""


def places_in_order(seen: Sequence[Seen]) -> list[int]:
    """The places in `seen` as HIP counts them, then those that it does not count."""
    in_order = all_nodes_known(seen)
    return sorted(
        range(len(seen)),
        key=lambda place: (bool(seen[place].not_counted), (seen[place].gpu.kfd_node or 0) if in_order else place),
    )


def all_nodes_known(seen: Sequence[Seen]) -> bool:
    """Whether every GPU that is counted has a KFD node, which is what the counting goes by."""
    return all(one.gpu.kfd_node is not None for one in seen if not one.not_counted)


def first_places(gpus: Sequence[Gpu]) -> list[int]:
    """The places of the GPUs without those that are another's double.

    The partitions of a package are different nodes, though old versions of amdsmi give them the same render node.
    """
    kept: list[int] = []
    for place, gpu in enumerate(gpus):
        if not any(_same(gpu, gpus[other]) for other in kept):
            kept.append(place)
    return kept


def _same(one: Gpu, other: Gpu) -> bool:
    places = [
        (one.kfd_node, other.kfd_node),
        (one.pci_address, other.pci_address),
        (one.render_node, other.render_node),
    ]
    known = [a == b for a, b in places if a is not None and b is not None]
    node_differs = None not in places[0] and one.kfd_node != other.kfd_node
    return not node_differs and len(known) >= 2 and all(known)


def doubles(source: str, found: int, kept: int) -> list[str]:
    """What is said of those that were left out."""
    return [f"{source} lists {found - kept} of the {found} GPUs twice: each is counted once"] if kept < found else []


def odd_size(size: int | None, product: Product | None) -> str | None:
    """Why a size of a GPU's memory is not believed, or None. How much an APU may have is up to its host."""
    if size is None:
        return NO_SIZE
    most = product.memory_bytes * _ROOM if product and has_own_memory(product) else size
    if _SMALLEST_BYTES <= size <= most:
        return None
    return f"{_ODD_SIZE}: {size} bytes" + (f", and a {product.name} has {product.memory_bytes}" if product else "")


def has_own_memory(product: Product) -> bool:
    """False for an APU, of which there is only ever one in a node: the memory it has is the host's."""
    return product.link != "none"


def is_about_size(reason: str | None) -> bool:
    """Whether a GPU is unusable because a layer does not know its memory: another layer may know it."""
    return (reason or "").startswith((NO_SIZE, _ODD_SIZE))
