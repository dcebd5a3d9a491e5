"""What the kernel's compute driver (KFD) shows in files: the root of a tree in, the files' texts as they are out.

Holds the one list of the files that are read, for the detector and for the tool that records a host. Run as a script
(`python -P read.py ROOT`) it prints one JSON object, so that a driver that hangs in a read hangs only that process.
Plain Python and nothing of AIM Engine; judges nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import Any

TOPOLOGY = "sys/class/kfd/kfd/topology/nodes"
HOLDERS = "sys/class/kfd/kfd/proc"
DRM = "sys/class/drm"
DRIVER = "sys/module/amdgpu"
RECORDING = "recording.json"

# Below each KFD node: of a CPU's node the first alone.
NODE_FILES = ("gpu_id", "properties")
NODE_LISTS = ("mem_banks", "io_links")  # folders of numbered folders, each with a `properties`
# Below sys/class/drm/renderD*/device. The first is read of every GPU: it never asks the device. The others are read of
# the granted ones and of the packages that those are partitions of.
ADDRESS_FILE = "uevent"
DEVICE_FILES = (
    "vendor",
    "device",
    "revision",
    "numa_node",
    "unique_id",
    "mem_info_vram_total",
    "mem_info_vram_used",
    "mem_info_gtt_total",
    "mem_info_gtt_used",
    "current_compute_partition",
    "current_memory_partition",
)
DRIVER_FILES = (f"{DRIVER}/version", f"{DRIVER}/initstate", "proc/sys/kernel/osrelease")

_MOST_BYTES = 65536  # the kernel gives such a file one page
_MOST_NODES = 1024
_MOST_HOLDERS = 1024
_MOST_ENTRIES = 65536
_HOST_PIDS = "pid:[4026531836]"  # the first pid namespace's inode, PROC_PID_INIT_INO in linux/proc_ns.h
_SLOT = re.compile(r"^PCI_SLOT_NAME=([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$", re.MULTILINE)


def read_tree(root: str) -> dict[str, Any]:
    """Everything the KFD layer needs of the tree at `root`.

    `kfd_nodes` are the numbers of the topology's nodes (None without a topology), readable or not, and `nodes_left_out`
    says how many more there are than any machine has; `files` maps each
    readable file's path below the root to its text; `device_nodes` says of each device node whether it is there, opens
    and to which group it belongs; `driver` is whether the driver is there at all.
    """
    reader = _Reader(root.rstrip("/"))
    return reader.reading()


def number(text: str | None) -> int | None:
    """A whole number in decimal digits, as the kernel writes 64-bit ones; None for anything else."""
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None


def properties(text: str | None) -> dict[str, int]:
    """The "key value" lines of a `properties` file that hold a number."""
    found = {}
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        whole = number(value)
        if whole is not None:
            found[key] = whole
    return found


def slot(uevent: str | None) -> str | None:
    """The PCI address in a device's `uevent`, without which a partition's device is (it is no PCI device)."""
    match = _SLOT.search(uevent or "")
    return match.group(1) if match else None


def node_path(node: int) -> str:
    """The folder of a KFD node."""
    return f"{TOPOLOGY}/{node}"


def device_path(minor: int) -> str:
    """The folder of a render node's device."""
    return f"{DRM}/renderD{minor}/device"


def package_of(location_id: int, domain: int) -> str:
    """The PCI address of the package that a KFD node is (a part of), with the function 0.

    A partition's number is in the function digit, or on newer drivers in bits 31 to 28 (kfd_topology.c).
    """
    return f"{domain & 0xFFFFFFFF:04x}:{location_id >> 8 & 0xFF:02x}:{location_id >> 3 & 0x1F:02x}.0"


class _Reader:
    def __init__(self, root: str) -> None:
        self.root = root
        self.files: dict[str, str] = {}
        self.recorded = self._recording() if root else {}

    def reading(self) -> dict[str, Any]:
        for path in DRIVER_FILES:
            self.read(path)
        every = self.numbers(TOPOLOGY, most=_MOST_ENTRIES)
        nodes = every and every[:_MOST_NODES]
        gpus = dict(self.gpu_nodes(nodes or ()))
        self.read_devices(gpus)
        host_pids = self.names_processes()
        self.read_holders({str(self.gpu_id(node)) for node in gpus}, host_pids)
        minors = sorted({gpu["drm_render_minor"] for gpu in gpus.values() if "drm_render_minor" in gpu})
        return {
            "kfd_nodes": nodes,
            "nodes_left_out": len(every or ()) - len(nodes or ()),
            "files": self.files,
            "device_nodes": {
                node: self.device_node(node) for node in ("/dev/kfd", *(f"/dev/dri/renderD{minor}" for minor in minors))
            },
            "driver": os.path.isdir(f"{self.root}/{DRIVER}"),  # noqa: PTH112 - every path here is a text
            "host_pids": host_pids,
        }

    def gpu_nodes(self, nodes: Iterator[int] | list[int] | tuple[int, ...]) -> Iterator[tuple[int, dict[str, int]]]:
        """The nodes that are GPUs of ours, with their properties. Another container's cannot be read."""
        for node in nodes:
            folder = node_path(node)
            if not number(self.read(f"{folder}/{NODE_FILES[0]}")):
                continue
            texts = [self.read(f"{folder}/{name}") for name in NODE_FILES[1:]]
            for name in NODE_LISTS:
                for entry in self.numbers(f"{folder}/{name}") or ():
                    self.read(f"{folder}/{name}/{entry}/properties")
            yield node, properties(texts[0])

    def gpu_id(self, node: int) -> int:
        return number(self.files[f"{node_path(node)}/{NODE_FILES[0]}"]) or 0

    def read_devices(self, gpus: dict[int, dict[str, int]]) -> None:
        ours = {gpu.get("drm_render_minor") for gpu in gpus.values()}
        packages = {package_of(gpu.get("location_id", 0), gpu.get("domain", 0)) for gpu in gpus.values()}
        for minor in sorted(self.minors()) if gpus else ():
            folder = device_path(minor)
            address = slot(self.read(f"{folder}/{ADDRESS_FILE}"))
            if minor in ours or address in packages:
                for name in DEVICE_FILES:
                    self.read(f"{folder}/{name}")

    def minors(self) -> Iterator[int]:
        for name in self.names(DRM):
            minor = number(name[len("renderD") :]) if name.startswith("renderD") else None
            if minor is not None and len(name) < 16:
                yield minor

    def read_holders(self, gpu_ids: set[str], host_pids: bool) -> None:
        """What each process holds of each GPU (vram_<gpu_id>, written by kfd_process.c), and who that is."""
        for pid in (self.numbers(HOLDERS) or [])[:_MOST_HOLDERS]:
            held = [self.read(f"{HOLDERS}/{pid}/vram_{gpu_id}") for gpu_id in sorted(gpu_ids)]
            if host_pids and any(held):
                self.read(f"proc/{pid}/comm")

    def names_processes(self) -> bool:
        """KFD counts processes as the host does: elsewhere, /proc/<pid> is another process than the one it means."""
        try:
            return os.readlink(f"{self.root}/proc/self/ns/pid") == _HOST_PIDS  # noqa: PTH115
        except (OSError, ValueError):
            return False

    def device_node(self, node: str) -> dict[str, Any]:
        """Asks for access without opening: opening may wake the device. A recorded host says how it was there."""
        path = self.root + node
        try:
            found = os.stat(path)  # noqa: PTH116
        except PermissionError:  # a folder on the way may not be searched: its group is the one to join
            return {"present": True, "opens": False, "group": self.group_above(path), "mode": None}
        except (OSError, ValueError):
            return {"present": False, "opens": False, "group": None}
        opens, group = os.access(path, os.R_OK | os.W_OK), found.st_gid
        said = self.recorded.get(node)
        if isinstance(said, dict):
            opens = said["opens"] if isinstance(said.get("opens"), bool) else opens
            told = said.get("group")
            group = told if isinstance(told, int) and 0 <= told < 2**32 else group
        return {"present": True, "opens": opens, "group": group, "mode": f"{stat.S_IMODE(found.st_mode):04o}"}

    def group_above(self, path: str) -> int | None:
        """The group of the nearest folder above that can be asked."""
        while len(path) > 1:
            path = os.path.dirname(path) or "/"  # noqa: PTH120
            try:
                return os.stat(path).st_gid  # noqa: PTH116
            except OSError:
                continue
        return None

    def numbers(self, folder: str, most: int = _MOST_NODES) -> list[int] | None:
        """The numbered entries of a folder, in order; None when there is no such folder."""
        names = list(self.names(folder))
        if not names and not os.path.isdir(f"{self.root}/{folder}"):  # noqa: PTH112
            return None
        texts = set(names)
        found = (int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 10)
        return sorted(n for n in set(found) if str(n) in texts)[:most]

    def names(self, folder: str) -> Iterator[str]:
        try:
            with os.scandir(f"{self.root}/{folder}") as entries:
                for entry in itertools.islice(entries, _MOST_ENTRIES):
                    yield entry.name
        except (OSError, ValueError):
            return

    def read(self, path: str) -> str | None:
        """The file's text, which is also kept; None when it cannot be read, or is nothing that ends."""
        try:
            descriptor = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            text = os.read(descriptor, _MOST_BYTES).decode("utf-8", "replace")
        except OSError:  # the device cgroup refuses the read, not the opening
            return None
        finally:
            os.close(descriptor)
        self.files[path] = text
        return text

    def _recording(self) -> dict[str, Any]:
        try:
            said = json.loads(self.read(RECORDING) or "")["device_nodes"]
        except (ValueError, KeyError, TypeError, RecursionError):
            said = None
        self.files.pop(RECORDING, None)
        return said if isinstance(said, dict) else {}


if __name__ == "__main__":
    print(json.dumps(read_tree(sys.argv[1] if len(sys.argv) > 1 else "/")))
