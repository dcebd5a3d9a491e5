"""The device nodes an AMD GPU is used through: a root and a node's path in, why it is closed and what opens it out.

Shared by the layers that look for AMD GPUs; knows none of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aim_engine.hardware.recording import DeviceNode

KFD = "/dev/kfd"
DEVICES = "docker run --device /dev/kfd --device /dev/dri"
OR_ELSE = "; to go on without the GPU, say --hardware cpu, or --hardware MI300X:8 to plan for another machine"

# Every layer of this vendor says the same of a machine without a sign of one.
ABSENT = "there is no AMD GPU here: /dev/kfd and the amdgpu driver are absent"
ABSENT_HINT = "in a container, pass --device /dev/kfd --device /dev/dri; on a host, install the amdgpu driver"
SIGNS = ("dev/kfd", "sys/module/amdgpu", "sys/class/kfd")

MISSING = "is not here"
DENIED = "cannot be opened: permission denied"


def is_sign_of_gpu(root: Path) -> bool:
    """True where the driver, or a device node of it, is there."""
    return any(os.path.exists(root / sign) for sign in SIGNS)  # noqa: PTH110 - says no where Path.exists raises


def closed(root: Path, node: str, *, missing_is_fine: bool = False) -> str:
    """Why a device node cannot be used, or "". Asks for access without opening: opening may wake the device."""
    if not is_here(root, node):
        return "" if missing_is_fine else MISSING
    return "" if opens(root, node) else DENIED


def is_here(root: Path, node: str) -> bool:
    """Whether there is such a node, as far as can be seen: what is in a folder that we may not search counts as there
    and closed.
    """
    try:
        (root / node.lstrip("/")).stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def opens(root: Path, node: str) -> bool:
    """Whether we may use a device node that is there. A recorded host says how it was there."""
    said = _said(root, node)
    if said is not None and said.opens is not None:
        return said.opens
    return os.access(root / node.lstrip("/"), os.R_OK | os.W_OK)


def group_of(root: Path, node: str) -> int | None:
    """The number of the group that owns a device node, or the folder that keeps us from it."""
    said = _said(root, node)
    if said is not None and said.group is not None:
        return said.group
    path = root / node.lstrip("/")
    for place in (path, *path.parents):
        try:
            return place.stat().st_gid
        except PermissionError:
            continue
        except OSError:
            break
    return None


def _said(root: Path, node: str) -> DeviceNode | None:
    if root == Path("/"):
        return None
    from aim_engine.hardware import recording  # here: most machines are no recording

    return recording.device_nodes(root).get(node)


def remedy(nodes: Iterable[str], groups: Iterable[int | None]) -> str:
    """What opens the device nodes to this process, with the numbers of the groups that own them.

    Numbers, because an image need not have a group called render, nor with the host's number.
    """
    numbers = sorted({number for number in groups if number is not None})
    joined = "".join(f" --group-add {number}" for number in numbers)
    names = ", ".join(dict.fromkeys(nodes))
    return f"to open {names}: {DEVICES}{joined}, or on a host join the group that owns them"
