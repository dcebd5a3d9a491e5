"""What raw answers about AMD GPUs mean: JSON of amdsmi's shape in, a `Finding` with `Gpu` values or a plain reason out.

The shape is what child.py says; cli.py makes the same of the amd-smi program's words. Starts nothing, asks no
library; a damaged answer gives fewer facts or a reason, never an exception.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aim_engine.hardware.amd.failures import (
    FILE_ERROR,
    NO_PERMISSION,
    no_list,
    no_memory,
    nothing_visible,
    without_answer,
)
from aim_engine.hardware.amd.order import (
    Seen,
    all_nodes_known,
    doubles,
    first_places,
    has_own_memory,
    is_about_size,
    odd_size,
    places_in_order,
)
from aim_engine.hardware.amd.packages import Link, package_of, with_peers, with_pools
from aim_engine.hardware.amd.values import address, items, part, text, unique_id, whole
from aim_engine.hardware.cgroup import read_text
from aim_engine.hardware.device_nodes import KFD, closed, group_of, remedy
from aim_engine.hardware.inventory import Finding, Firmware, Gpu, Holder
from aim_engine.hardware.kfd.read import TOPOLOGY, number
from aim_engine.hardware.products import product_by_device_id

_MIB = 2**20
_MOST_GPUS = 1024
_CUT = "amdsmi gives each partition its package's whole memory (as before ROCm 6.4.1): counted with its share of it"
_ONE_HOP, _XGMI = 1, 2  # amdsmi_topo_get_link_type, amdsmi_link_type_t


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How to read: which layer answers, where the device nodes are, and whether a missing one matters (not where the
    library is a mock).
    """

    source: str = "amdsmi"
    root: Path
    check_nodes: bool


def read_answer(answer: Mapping[str, Any], root: Path, *, check_nodes: bool, source: str = "amdsmi") -> Finding:
    """The finding that a raw answer amounts to; `Reader` explains the rest."""
    failure = without_answer(source, answer)
    if failure:
        return failure
    raw_gpus = answer.get("gpus")
    if not isinstance(raw_gpus, list) or not all(isinstance(raw, dict) for raw in raw_gpus):
        return no_list(source)
    if not raw_gpus:
        return nothing_visible(source)
    found = _found(answer, raw_gpus[:_MOST_GPUS], Reader(source=source, root=root, check_nodes=check_nodes))
    if len(raw_gpus) > _MOST_GPUS:
        more = f"{source} lists {len(raw_gpus)} GPUs: those after the first {_MOST_GPUS} are left out"
        found = replace(found, notes=(*found.notes, more))
    if any(gpu.usable for gpu in found.gpus) or not any(is_about_size(gpu.unusable) for gpu in found.gpus):
        return found
    # another layer may know what this one does not
    return replace(no_memory(source, len(found.gpus)), notes=found.notes)


def _found(answer: Mapping[str, Any], raw_gpus: Sequence[Mapping[str, Any]], reader: Reader) -> Finding:
    """The GPUs in HIP's order, and a note for everything that is not as it should be."""
    asked_by = whole(answer.get("asked_by"))
    every = [_seen(raw, reader, asked_by) for raw in raw_gpus]
    kept = first_places([one.gpu for one in every])
    seen = [every[place] for place in kept]
    gpus = with_pools([one.gpu for one in seen], [one.product for one in seen])
    notes = doubles(reader.source, len(every), len(seen))
    notes += [_CUT] if any(one.gpu.memory_bytes > new.memory_bytes for one, new in zip(seen, gpus, strict=True)) else []
    order = places_in_order(seen)
    if not all_nodes_known(seen):
        notes.append(
            f"{reader.source} did not say every GPU's KFD node: the GPUs are in PCI order, which may not be HIP's"
        )
    for index, place in enumerate(order):
        gpus[place] = replace(gpus[place], index=index)
    gpus = _with_firmware(with_peers(gpus, _links(answer, kept)))
    gpus, node_notes = _with_nodes([gpus[place] for place in order], [seen[place] for place in order], reader)
    assumed = [gpu for gpu, raw in zip(gpus, (raw_gpus[kept[place]] for place in order), strict=True)
               if gpu.usable and _memory_total(raw) is None]  # fmt: skip
    return Finding(
        source=reader.source,
        gpus=tuple(gpus),
        hint=node_notes[0] if node_notes else "",
        notes=(*notes, *node_notes, *_asides(gpus, answer), *_assumed(assumed, reader)),
        driver_version=text(part(answer, "driver").get("driver_version")),
        library_version=_version(part(answer, "library")),
    )


def _with_nodes(gpus: list[Gpu], seen: Sequence[Seen], reader: Reader) -> tuple[list[Gpu], list[str]]:
    """None of the GPUs is usable where the compute node is closed; and what opens each closed node."""
    kfd_closed = closed(reader.root, KFD, missing_is_fine=not reader.check_nodes)
    if kfd_closed:
        gpus = [replace(gpu, unusable=gpu.unusable or f"{KFD} {kfd_closed}") for gpu in gpus]
    nodes = [KFD] if kfd_closed else []
    nodes += [one.gpu.render_node or "/dev/dri/renderD*" for one in seen if kfd_closed or one.not_counted]
    return gpus, [remedy(nodes, (group_of(reader.root, node) for node in nodes))] if nodes else []


def _assumed(gpus: Sequence[Gpu], reader: Reader) -> Iterable[str]:
    if gpus:
        names = ", ".join(dict.fromkeys(gpu.product for gpu in gpus))
        yield (
            f"{reader.source} does not say how much memory {len(gpus)} of the GPUs have: assumed to be what is built "
            f"into their product ({names})"
        )


def _asides(gpus: Iterable[Gpu], answer: Mapping[str, Any]) -> Iterable[str]:
    if any(gpu.memory_pool for gpu in gpus):
        yield "these GPUs are partitions that share one memory: do not add up their sizes"
    question = text(answer.get("unanswered"))
    if question:
        yield f"amdsmi did not answer {question}, so this and what comes after it is unknown"


def _links(answer: Mapping[str, Any], kept: Sequence[int]) -> Iterable[Link]:
    """The pairs of GPUs that are one XGMI hop apart, by their places among those of the answer that are kept."""
    place_of = {place: new for new, place in enumerate(kept)}
    for item in items(answer, "links"):
        ends, link = item.get("of"), part(item, "link")
        if link.get("hops") != _ONE_HOP or link.get("type") != _XGMI or not isinstance(ends, list):
            continue
        places = [place_of[end] for end in (whole(end) for end in ends) if end in place_of]
        if len(places) == len(ends) == 2:
            yield places[0], places[1]


def _with_firmware(gpus: Sequence[Gpu]) -> list[Gpu]:
    """The first partition of a package was asked for its firmware, which the others share."""
    known = {gpu.package: gpu.firmware for gpu in reversed(gpus) if gpu.package and gpu.firmware}
    return [replace(gpu, firmware=gpu.firmware or known.get(gpu.package or "", ())) for gpu in gpus]


def _version(library: Mapping[str, Any]) -> str | None:
    """ "26.0.2"; 6.x has a year in front of these."""
    numbers = [whole(library.get(key)) for key in ("major", "minor", "release")]
    return ".".join(str(number) for number in numbers) if None not in numbers else None


def _seen(raw: Mapping[str, Any], reader: Reader, asked_by: int | None) -> Seen:
    asic, kfd = part(raw, "asic"), part(raw, "kfd")
    pci_address = address(raw.get("bdf"))
    device_id, revision = text(asic.get("device_id")), text(asic.get("rev_id"))
    if device_id is None:  # amdsmi reads it through the render node, the kernel shows it to everybody
        device_id = _pci_attribute(reader.root, pci_address, "device")
        revision = _pci_attribute(reader.root, pci_address, "revision")
    units = whole(asic.get("num_compute_units"))
    product = product_by_device_id(device_id, revision, compute_units=units) if device_id else None
    render_node = _render_node(raw, reader.root, pci_address)
    total = _memory_total(raw)
    compute_mode, memory_mode = _modes(raw)
    partition_id = _partition_id(raw)
    not_counted = _not_counted(raw, reader, render_node)
    assumed = total is None and product is not None and has_own_memory(product)
    gpu = Gpu(
        index=0,
        product=product.name if product else text(asic.get("market_name")) or "AMD GPU",
        vendor="amd",
        memory_bytes=total or (product.memory_bytes if product else 0),
        memory_free_bytes=_memory_free(raw, total),
        device_id=device_id,
        gfx=product.gfx if product else _gfx(asic),
        compute_units=units or (product.compute_units if product and compute_mode in (None, "SPX") else None),
        pci_address=pci_address,
        uuid=text(raw.get("uuid")),
        unique_id=unique_id(asic.get("asic_serial")),
        render_node=render_node,
        kfd_node=whole(kfd.get("node_id")),
        numa_node=whole(raw.get("numa_node")),
        partition="/".join(mode for mode in (compute_mode, memory_mode) if mode) or None,
        partition_id=partition_id,
        package=package_of(pci_address, compute_mode, partition_id),
        firmware=tuple(_firmware(raw)),
        holders=tuple(_holders(raw, asked_by)),
        unusable=not_counted or (None if assumed else odd_size(total, product)),
    )
    return Seen(gpu=gpu, product=product, not_counted=not_counted)


def _not_counted(raw: Mapping[str, Any], reader: Reader, render_node: str | None) -> str:
    """Why ROCm's runtime would not count this GPU: it is not ours, or its render node is closed to us."""
    if render_node is not None:
        why = closed(reader.root, render_node, missing_is_fine=not reader.check_nodes)
        if why:
            return f"the render node {render_node} {why}"
    if part(part(raw, "errors"), "asic").get("code") in (FILE_ERROR, NO_PERMISSION):
        return f"the render node {render_node or 'of this GPU'} cannot be opened"
    node = whole(part(raw, "kfd").get("node_id"))
    if reader.check_nodes and node is not None and _is_foreign(reader.root / TOPOLOGY / str(node)):
        return f"its KFD node {node} is not ours to read: the container was started without it"
    return ""


def _is_foreign(node: Path) -> bool:
    """The device cgroup refuses to read the node of a GPU that is not ours (kfd_topology.c), which is there all the
    same.
    """
    return os.path.isdir(node) and number(read_text(node / "gpu_id")) is None  # noqa: PTH112 - says no where closed


def _render_node(raw: Mapping[str, Any], root: Path, pci_address: str | None) -> str | None:
    """As amdsmi says from 6.4 on, else as the kernel shows it; for a package's further partitions it does not."""
    minor = whole(part(raw, "enumeration").get("drm_render"))
    if minor is not None:
        return f"/dev/dri/renderD{minor}"
    shown = sorted((root / "sys/bus/pci/devices" / pci_address / "drm").glob("renderD*")) if pci_address else []
    return f"/dev/dri/{shown[0].name}" if shown else None


def _memory_total(raw: Mapping[str, Any]) -> int | None:
    """Bytes, from the first call that says so; two of the three count in MiB."""
    exact = whole(raw.get("memory_total"))
    mebibytes = whole(part(raw, "usage").get("vram_total")) or whole(part(raw, "vram").get("vram_size"))
    return exact or whole(mebibytes * _MIB if mebibytes else None)


def _memory_free(raw: Mapping[str, Any], total: int | None) -> int | None:
    used = whole(raw.get("memory_used"))
    if used is None:
        mebibytes = whole(part(raw, "usage").get("vram_used"))
        used = mebibytes * _MIB if mebibytes is not None else None
    return max(0, total - used) if total and used is not None else None


def _modes(raw: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The compute and the memory partition mode; the former has another getter from ROCm 10 on."""
    profile = part(part(raw, "accelerator_partition"), "partition_profile")
    return text(raw.get("compute_partition")) or text(profile.get("profile_type")), text(raw.get("memory_partition"))


def _partition_id(raw: Mapping[str, Any]) -> int | None:
    ids = part(raw, "accelerator_partition").get("partition_id")
    first = ids[0] if isinstance(ids, list) and ids else None
    said = whole(part(raw, "kfd").get("current_partition_id"))
    return said if said is not None else whole(first)


def _holders(raw: Mapping[str, Any], asked_by: int | None) -> Iterable[Holder]:
    """Who holds memory of the GPU; the process that asked is none of them, though some drivers list it."""
    for process in items(raw, "holders"):
        pid = whole(process.get("pid"))
        held = whole(part(process, "memory_usage").get("vram_mem")) or whole(process.get("mem")) or 0
        if pid and pid != asked_by:
            yield Holder(pid=pid, name=text(process.get("name")) or "", memory_bytes=held)


def _firmware(raw: Mapping[str, Any]) -> Iterable[Firmware]:
    vbios = part(raw, "vbios")
    version = text(vbios.get("version")) or text(vbios.get("part_number"))
    if version:
        yield Firmware(name="vbios", version=version)
    for item in items(part(raw, "firmware"), "fw_list"):
        name, version = text(item.get("fw_name")), text(item.get("fw_version"))
        if name and version:
            yield Firmware(name=name.lower().removeprefix("amdsmi_").removeprefix("fw_id_"), version=version)


def _gfx(asic: Mapping[str, Any]) -> str | None:
    name = text(asic.get("target_graphics_version"))
    return name if name and 5 < len(name) <= len("gfx12345") else None


def _pci_attribute(root: Path, pci_address: str | None, name: str) -> str | None:
    return text(read_text(root / "sys/bus/pci/devices" / pci_address / name)) if pci_address else None
