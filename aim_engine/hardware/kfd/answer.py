"""What the files of the kernel's compute driver mean: read.py's answer in, `Gpu` values and notes out.

Puts together what node.py says of each GPU; reads nothing itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aim_engine.hardware.amd.order import doubles, odd_size
from aim_engine.hardware.amd.packages import with_peers, with_pools
from aim_engine.hardware.device_nodes import DENIED, KFD, MISSING, remedy
from aim_engine.hardware.inventory import Firmware, Gpu, Holder
from aim_engine.hardware.kfd.node import KfdNode
from aim_engine.hardware.kfd.read import HOLDERS, NODE_LISTS, device_path, node_path, number, properties, slot

_LOCAL_HEAPS = (1, 2)  # public and private; 0 is the host's memory (kfd_topology.h)
_XGMI = 11  # CRAT_IOLINK_TYPE_XGMI
# kfd_crat.c: 15 for each hop between whole GPUs; between partitions of two packages 13 inside each, and one hop
_ONE_HOP = (15, 13 + 15 + 13)
_SMALL_BYTES = 4 << 30  # no GPU that computes has less of its own

_ENTRY = re.compile(rf"{re.escape(node_path(0)[:-1])}(\d+)/({'|'.join(NODE_LISTS)})/\d+/properties")
_DEVICE = re.compile(device_path(0).replace("renderD0", r"renderD(\d+)") + r"/(\w+)")


def gpus_and_notes(reading: Mapping[str, Any]) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """The GPUs in HIP's order, which is that of the KFD nodes that are ours, and what was odd about them."""
    every = read_nodes(reading)
    # stable: the others, which have no number of HIP's, follow in their order
    nodes = sorted(_once(every), key=lambda node: bool(_not_counted(node, reading["device_nodes"])))
    gpus = with_pools(
        [_gpu(place, node, reading) for place, node in enumerate(nodes)], [node.product for node in nodes]
    )
    gpus = with_peers([_with_free(gpu, node) for gpu, node in zip(gpus, nodes, strict=True)], list(_links(nodes)))
    notes = [*doubles("kfd", len(every), len(nodes)), *_left_out(reading)]
    return tuple(gpus), (*_notes(nodes, gpus, reading["device_nodes"]), *notes)


def _once(nodes: Sequence[KfdNode]) -> Iterator[KfdNode]:
    """The kernel gives each node an id and a render node of its own: what repeats one is the same GPU again."""
    ids, minors = set[int](), set[int | None]({None})
    for node in nodes:
        if node.gpu_id not in ids and (node.minor is None or node.minor not in minors):
            yield node
        ids.add(node.gpu_id)
        minors.add(node.minor)


def _left_out(reading: Mapping[str, Any]) -> Iterator[str]:
    read, left_out = len(reading["kfd_nodes"]), reading["nodes_left_out"]
    if left_out:
        yield f"the KFD topology has {read + left_out} nodes: those after the first {read} are left out"


def read_nodes(reading: Mapping[str, Any]) -> list[KfdNode]:
    """The nodes that are GPUs and that can be read, in order."""
    files: Mapping[str, str] = reading["files"]
    lists, devices = _lists(files), _devices(files)
    by_address = {slot(device.get("uevent")): device for _, device in sorted(devices.items())}
    nodes = []
    for place in reading["kfd_nodes"] or ():
        gpu_id = number(files.get(f"{node_path(place)}/gpu_id"))
        if not gpu_id:
            continue
        facts = properties(files.get(f"{node_path(place)}/properties"))
        own = devices.get(facts.get("drm_render_minor", -1), {})
        banks = (bank for bank in lists[place, NODE_LISTS[0]] if bank.get("heap_type") in _LOCAL_HEAPS)
        node = KfdNode(
            number=place,
            gpu_id=gpu_id,
            facts=facts,
            bank_bytes=sum(bank.get("size_in_bytes", 0) for bank in banks),
            links=tuple(lists[place, NODE_LISTS[1]]),
            device=own,
            first=own,
        )
        nodes.append(node if slot(own.get("uevent")) else _with_first(node, by_address))
    return nodes


def _with_first(node: KfdNode, by_address: Mapping[str | None, Mapping[str, str]]) -> KfdNode:
    """A partition but the first is no PCI device: what concerns its package is in the first one's files."""
    return replace(node, first=by_address.get(node.package, node.device))


def _lists(files: Mapping[str, str]) -> Mapping[tuple[int, str], list[Mapping[str, int]]]:
    """(node, "io_links") → the properties of each of its links."""
    found: dict[tuple[int, str], list[Mapping[str, int]]] = defaultdict(list)
    for path, text in files.items():
        if match := _ENTRY.fullmatch(path):
            found[int(match[1]), match[2]].append(properties(text))
    return found


def _devices(files: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """Render minor → its device's files."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for path, text in files.items():
        if match := _DEVICE.fullmatch(path):
            found[int(match[1])][match[2]] = text
    return found


def _gpu(place: int, node: KfdNode, reading: Mapping[str, Any]) -> Gpu:
    product = node.product
    return Gpu(
        index=place,
        product=product.name if product else f"AMD GPU {node.device_id or 'of no known id'}",
        vendor="amd",
        memory_bytes=node.memory_bytes or (product.memory_bytes if product else 0),
        device_id=node.device_id,
        gfx=node.gfx,
        compute_units=node.compute_units,
        pci_address=node.address,
        unique_id=node.unique_id,
        render_node=node.render_node,
        kfd_node=node.number,
        numa_node=node.numa_node,
        partition=node.partition,
        partition_id=node.part,
        package=node.package if node.is_part else node.address,
        firmware=tuple(_firmware(node)),
        holders=tuple(_holders(node.gpu_id, reading)),
        unusable=_unusable(node, reading["device_nodes"]) or odd_size(node.memory_bytes or None, product),
    )


def _with_free(gpu: Gpu, node: KfdNode) -> Gpu:
    free = node.free_bytes(shares_package=gpu.memory_pool == node.package)
    return replace(gpu, memory_free_bytes=None if free is None else min(free, gpu.memory_bytes))


def _firmware(node: KfdNode) -> Iterator[Firmware]:
    for name, key in (("mec", "fw_version"), ("sdma", "sdma_fw_version")):
        if node.facts.get(key):
            yield Firmware(name=name, version=str(node.facts[key]))


def _holders(gpu_id: int, reading: Mapping[str, Any]) -> Iterator[Holder]:
    """Who holds memory of the GPU for computing; what graphics holds is not in these files."""
    files: Mapping[str, str] = reading["files"]
    for path, text in files.items():
        pid, _, rest = path.removeprefix(f"{HOLDERS}/").partition("/")
        size = number(text)
        if rest == f"vram_{gpu_id}" and size and path.startswith(HOLDERS):
            yield Holder(pid=int(pid), name=printable(files.get(f"proc/{pid}/comm", "")), memory_bytes=size)


def _unusable(node: KfdNode, device_nodes: Mapping[str, Any]) -> str | None:
    return _not_counted(node, device_nodes) or _closed(KFD, KFD, device_nodes) or None


def _not_counted(node: KfdNode, device_nodes: Mapping[str, Any]) -> str:
    """Why ROCm's runtime would not count it (amd/order.py): its render node is not ours."""
    if node.render_node is None:
        return "the driver names no render node for it"
    return _closed(f"the render node {node.render_node}", node.render_node, device_nodes)


def _closed(name: str, path: str, device_nodes: Mapping[str, Any]) -> str:
    state = device_nodes.get(path, {})
    return "" if state.get("opens") else f"{name} {DENIED if state.get('present') else MISSING}"


def _links(nodes: Sequence[KfdNode]) -> Iterator[tuple[int, int]]:
    """Pairs of places one XGMI hop apart, in two packages."""
    places = {node.number: place for place, node in enumerate(nodes)}
    for place, node in enumerate(nodes):
        for link in node.links:
            other = places.get(link.get("node_to", -1), place)
            one_hop = link.get("type") == _XGMI and link.get("weight") in _ONE_HOP
            if one_hop and nodes[other].package != node.package:
                yield place, other


def _notes(nodes: Sequence[KfdNode], gpus: Sequence[Gpu], device_nodes: Mapping[str, Any]) -> Iterator[str]:
    closed = [path for path, state in device_nodes.items() if not state["opens"]]
    if closed and nodes:
        yield remedy(closed, (device_nodes[path]["group"] for path in closed))
    guessed = [node for node in nodes if node.is_part and node.said_mode is None]
    if guessed:
        yield (
            "the driver does not say the partition mode; taken for partitions because they have fewer compute units "
            f"than their product: KFD nodes {', '.join(str(node.number) for node in guessed)}"
        )
    if any(gpu.memory_pool for gpu in gpus):
        yield "some of these GPUs are partitions that share one memory: do not add up their sizes"
    yield from _host_memory(nodes)


def _host_memory(nodes: Sequence[KfdNode]) -> Iterator[str]:
    """An APU has little memory of its own; how much of the host's it may map is the driver's setting."""
    for node in nodes:
        mappable = number(node.first.get("mem_info_gtt_total")) or 0
        if 0 < node.memory_bytes < _SMALL_BYTES < mappable:
            yield (
                f"the GPU at {node.address} has {node.memory_bytes >> 20} MiB of its own; the {mappable >> 20} MiB of "
                "the host's memory that it can map (GTT) are not counted"
            )


def printable(text: str) -> str:
    """A short text of the system's without what cannot be shown."""
    return "".join(letter for letter in text if letter.isprintable()).strip()[:64]
