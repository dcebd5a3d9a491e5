"""What amdsmi's raw answers mean: the child's JSON in, a `Finding` with `Gpu` values or a plain reason out.

Knows amdsmi's status codes, its leaked sentinels and its order; starts nothing and asks no library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aim_engine.hardware.device_nodes import DEVICES, KFD, OR_ELSE, closed, group_of, remedy
from aim_engine.hardware.inventory import Finding, Gpu
from aim_engine.hardware.products import Product, product_by_device_id

SOURCE = "amdsmi"

# amdsmi.h, amdsmi_status_t
_NO_PERMISSION, _FILE_ERROR, _NOT_INITIALISED, _DRIVER_NOT_LOADED = 10, 14, 32, 34
# "Not available" comes as text from most calls, and as the field's largest value from the rest.
_SENTINELS = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_MIB = 2**20
_NO_SIZE = "the size of its memory is unknown"


def read_answer(answer: Mapping[str, Any], root: Path, *, check_nodes: bool) -> Finding:
    """The finding that the child's answer amounts to.

    `root` is where the device nodes are; without `check_nodes` a node may be missing (the library is a mock).
    """
    if "stage" in answer:
        reason, hint = _failure(answer)
        return blocked(reason, hint)
    raw_gpus = answer.get("gpus")
    if not isinstance(raw_gpus, list) or not all(isinstance(raw, dict) for raw in raw_gpus):
        return blocked(
            "what amdsmi answered cannot be read: it lists no GPUs", "update amdsmi to the version ROCm ships"
        )
    if not raw_gpus:
        return blocked(
            "the amdgpu driver is loaded, but no GPU is visible to this process",
            f"start the container with its devices: {DEVICES}",
        )
    gpus = [_gpu(raw, root, check_nodes) for raw in raw_gpus]
    return _found(gpus, root, check_nodes)


def blocked(reason: str, hint: str) -> Finding:
    """There is an AMD GPU, or a sign of one, that cannot be used: the search ends here."""
    return Finding(source=SOURCE, reason=reason, hint=hint + OR_ELSE, blocking=True)


def _failure(answer: Mapping[str, Any]) -> tuple[str, str]:
    """(reason, hint) for a library that could not be imported, started or asked."""
    stage, kind, code, text = (answer.get(key) for key in ("stage", "type", "code", "text"))
    if code == _DRIVER_NOT_LOADED:
        return (
            "the amdgpu driver is not loaded",
            "on the host: sudo modprobe amdgpu, then look at `dmesg | grep amdgpu`",
        )
    if code == _NOT_INITIALISED:
        return (
            "the amdgpu driver is loaded, but its KFD topology in /sys is hidden from this process",
            f"a sandboxed runtime or a masked /sys hides it; use the default runtime: {DEVICES}",
        )
    if kind == "ModuleNotFoundError":
        return (
            "there are signs of an AMD GPU, but Python's amdsmi package is not installed",
            "install the one ROCm ships (PYTHONPATH=/opt/rocm/share/amd_smi), or pip install amdsmi",
        )
    # amdsmi up to 7.0 raises KeyError('libamd_smi.so') on import, later ones OSError at the first call
    if kind in ("KeyError", "OSError", "FileNotFoundError"):
        return (
            "ROCm's library libamd_smi.so cannot be loaded",
            "install ROCm's amd-smi-lib package, or let LD_LIBRARY_PATH or ROCM_PATH lead to it",
        )
    if kind == "AttributeError":
        return (
            f"the amdsmi package is newer than ROCm's libamd_smi.so: {text}",
            "use the amdsmi package that this ROCm ships (PYTHONPATH=/opt/rocm/share/amd_smi)",
        )
    number = f" with status {code}" if code is not None else ""
    return f"amdsmi failed to {stage}{number}: {text}", "see what `amd-smi list` says here and on the host"


def _found(gpus: list[Gpu], root: Path, check_nodes: bool) -> Finding:
    """The GPUs in HIP's order, none of them usable where the compute node is closed, and a remedy for each trouble."""
    notes: list[str] = []
    if any(gpu.kfd_node is None for gpu in gpus):
        notes.append("amdsmi did not say every GPU's KFD node: the GPUs are in PCI order, which may not be HIP's")
    else:
        # HIP counts in the order of the KFD nodes, amdsmi in that of the PCI addresses; boards exist where they differ
        gpus = sorted(gpus, key=lambda gpu: gpu.kfd_node or 0)
    kfd_closed = closed(root, KFD, missing_is_fine=not check_nodes)
    if kfd_closed:
        gpus = [replace(gpu, unusable=gpu.unusable or f"{KFD} {kfd_closed}") for gpu in gpus]
    nodes = [KFD] if kfd_closed else []
    nodes += [gpu.render_node or "/dev/dri/renderD*" for gpu in gpus if gpu.unusable not in (None, _NO_SIZE)]
    notes += [remedy(nodes, (group_of(root, node) for node in nodes))] if nodes else []
    notes += _partition_notes(gpus)
    numbered = tuple(replace(gpu, index=index) for index, gpu in enumerate(gpus))
    return Finding(source=SOURCE, gpus=numbered, notes=tuple(notes))


def _partition_notes(gpus: Iterable[Gpu]) -> Iterable[str]:
    """In NPS1 every compute partition reports its package's whole memory, which they share."""
    if any(gpu.partition and gpu.partition.endswith("/NPS1") and not gpu.partition.startswith("SPX/") for gpu in gpus):
        yield "these GPUs are partitions that share one memory (NPS1): do not add up their sizes"


def _gpu(raw: Mapping[str, Any], root: Path, check_nodes: bool) -> Gpu:
    asic, kfd, enumeration = _part(raw, "asic"), _part(raw, "kfd"), _part(raw, "enumeration")
    address = _text(raw.get("bdf"))
    device_id, revision = _text(asic.get("device_id")), _text(asic.get("rev_id"))
    if device_id is None:  # amdsmi reads it through the render node, the kernel shows it to everybody
        device_id, revision = _pci_attribute(root, address, "device"), _pci_attribute(root, address, "revision")
    units = _whole(asic.get("num_compute_units"))
    product = product_by_device_id(device_id, revision, compute_units=units) if device_id else None
    render_minor = _whole(enumeration.get("drm_render"))
    render_node = f"/dev/dri/renderD{render_minor}" if render_minor is not None else None
    total = _memory_total(raw)
    unusable = _unusable(raw, root, render_node, check_nodes) or (None if total else _NO_SIZE)
    return Gpu(
        index=0,
        product=product.name if product else _text(asic.get("market_name")) or "AMD GPU",
        vendor="amd",
        memory_bytes=total or (product.memory_bytes if product else 0),
        memory_free_bytes=_memory_free(raw, total),
        device_id=device_id,
        gfx=product.gfx if product else _gfx(asic),
        compute_units=units if units else _units_of_whole_gpu(product, raw),
        pci_address=address,
        uuid=_text(raw.get("uuid")),
        render_node=render_node,
        kfd_node=_whole(kfd.get("node_id")),
        numa_node=_whole(raw.get("numa_node")),
        partition=_partition(raw),
        unusable=unusable,
    )


def _unusable(raw: Mapping[str, Any], root: Path, render_node: str | None, check_nodes: bool) -> str | None:
    """Why an engine could not use this GPU: its render node is closed to us."""
    if render_node is not None:
        why = closed(root, render_node, missing_is_fine=not check_nodes)
        if why:
            return f"the render node {render_node} {why}"
    code = _part(_part(raw, "errors"), "asic").get("code")
    if code in (_FILE_ERROR, _NO_PERMISSION):
        return f"the render node {render_node or 'of this GPU'} cannot be opened"
    return None


def _memory_total(raw: Mapping[str, Any]) -> int | None:
    """Bytes, from the first call that says so; two of the three count in MiB."""
    exact = _whole(raw.get("memory_total"))
    mebibytes = _whole(_part(raw, "usage").get("vram_total")) or _whole(_part(raw, "vram").get("vram_size"))
    return exact or (mebibytes * _MIB if mebibytes else None)


def _memory_free(raw: Mapping[str, Any], total: int | None) -> int | None:
    used = _whole(raw.get("memory_used"))
    if used is None:
        mebibytes = _whole(_part(raw, "usage").get("vram_used"))
        used = mebibytes * _MIB if mebibytes is not None else None
    return max(0, total - used) if total and used is not None else None


def _partition(raw: Mapping[str, Any]) -> str | None:
    modes = (_text(raw.get("compute_partition")), _text(raw.get("memory_partition")))
    return "/".join(mode for mode in modes if mode) or None


def _units_of_whole_gpu(product: Product | None, raw: Mapping[str, Any]) -> int | None:
    """The product's units, unless the GPU may be a part of one."""
    whole = _text(raw.get("compute_partition")) in (None, "SPX")
    return product.compute_units if product and whole else None


def _gfx(asic: Mapping[str, Any]) -> str | None:
    name = _text(asic.get("target_graphics_version"))
    return name if name and 5 < len(name) <= len("gfx12345") else None


def _pci_attribute(root: Path, address: str | None, name: str) -> str | None:
    if address is None or "/" in address:
        return None
    try:
        return (root / "sys/bus/pci/devices" / address / name).read_text(
            encoding="ascii", errors="replace"
        ).strip() or None
    except OSError:
        return None


def _part(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    """A text that says something: not "N/A", not empty, not a leaked all-ones number in hex, nothing unprintable."""
    if not isinstance(value, str):
        return None
    text = "".join(letter for letter in value if letter.isprintable()).strip()
    if text in ("", "N/A"):
        return None
    return None if text.lower() in ("0xffffffff", "0xffffffffffffffff") else text


def _whole(value: object) -> int | None:
    """A number that says something: not one of the largest values that stand for "not available"."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or value in _SENTINELS:
        return None
    return value
