"""AMD GPUs that have left no driver behind: a root in, a `Finding` that says what is there out.

Asked where neither the driver nor its device file is. A GPU that we know stops the search, for a CPU must not be chosen
in silence beside it; any other adapter of AMD's (an APU's display, an old card) is worth a note. Starts nothing. Tried
on planted trees only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from aim_engine.hardware.cgroup import read_text
from aim_engine.hardware.device_nodes import ABSENT, ABSENT_HINT, DEVICES, OR_ELSE
from aim_engine.hardware.inventory import Finding
from aim_engine.hardware.pci import AMD, PciDevice, display_devices

_WSL = (
    "this is WSL (/dev/dxg): AMD's tools for Linux do not see a GPU behind it, and neither does AIM Engine, even where "
    "ROCm for WSL works"
)
_LOAD = (
    "on the host: sudo modprobe amdgpu, then look at `dmesg | grep amdgpu`; a container sees its host's GPUs: pass "
    f"them with {DEVICES}, or start it with AIM_HARDWARE=cpu"
)


def without_driver(source: str, root: Path) -> Finding:
    """What `source` says where there is no sign of the driver."""
    devices = display_devices(root, AMD)
    known = [device for device in devices if _product(device)]
    if known:
        return _blocked(source, _in_words(known), _LOAD)
    node = next(_render_nodes(root), None)
    if node:
        reason = f"the render node {node} of an AMD GPU is here, but /dev/kfd is not"
        return _blocked(source, reason, f"in a container: {DEVICES}")
    notes = [f"an AMD GPU of a kind that is not known here ({device.device_id} at {device.address}) is present; "
             f"{device.why_unused}" for device in devices]  # fmt: skip
    notes += [_WSL] if os.path.exists(root / "dev/dxg") else []  # noqa: PTH110 - says no where Path.exists raises
    return Finding(source=source, reason=ABSENT, hint=ABSENT_HINT, notes=tuple(notes))


def _blocked(source: str, reason: str, hint: str) -> Finding:
    return Finding(source=source, reason=reason, hint=hint + OR_ELSE, blocking=True, certain=True)


def _product(device: PciDevice) -> str:
    from aim_engine.hardware.products import product_by_device_id  # here: most machines have none to look up

    product = product_by_device_id(device.device_id) if device.device_id else None
    return product.name if product else ""


def _in_words(devices: Sequence[PciDevice]) -> str:
    kinds = Counter(map(_product, devices))
    what = " and ".join(f"{count} x {name}" for name, count in kinds.items())
    others = {device.driver for device in devices if device.driver}
    given = f" (bound to {', '.join(sorted(others))} instead)" if others else ""
    return f"{what} on the PCI bus (at {devices[0].address}), but the amdgpu driver is not loaded{given}"


def _render_nodes(root: Path) -> Iterator[str]:
    """Those in our /dev that are AMD's and that the amdgpu driver made. An old card's are the radeon driver's."""
    try:
        names = sorted(os.listdir(root / "dev/dri"))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        device = root / "sys/class/drm" / name / "device"
        is_amds = name.startswith("renderD") and (read_text(device / "vendor") or "").strip() == AMD
        if is_amds and "DRIVER=amdgpu" in (read_text(device / "uevent") or ""):
            yield f"/dev/dri/{name}"
