"""Recorded hosts: the descriptions in tests/hosts as they are written in, folder trees with sys/, dev/ and proc/ out.

Each description names the source of its values and is marked `synthetic`: none was recorded on such a machine. What is
the same on all of them (the files' layout, the links inside and between packages) is here, from the kernel's
kfd_topology.c and kfd_crat.c.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HOSTS = Path(__file__).resolve().parent.parent / "hosts"
NODES = "sys/class/kfd/kfd/topology/nodes"
CPU_NODES = 2
GROUP = 109  # of the device nodes, as it is in recording.json
_FIRST_UNIQUE_ID = 0xA10000000000C0DE

Host = Mapping[str, Any]


def host_names() -> list[str]:
    """Every described host."""
    return sorted(path.stem for path in HOSTS.glob("*.yaml"))


def read_host(name: str) -> Host:
    """The description of one host; `like` takes what it does not say itself from another."""
    described: dict[str, Any] = yaml.safe_load((HOSTS / f"{name}.yaml").read_text())
    return {**read_host(described["like"]), **described} if "like" in described else described


def plant_host(host: Host, root: Path) -> Path:
    """The host's tree below `root`."""
    for path, text in files_of(host).items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for folder in ("sys", "dev", "proc"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    return root


def files_of(host: Host) -> dict[str, str]:
    """Path below the root → content, device nodes included."""
    gpus = list(_gpus(host))
    files = dict(_machine(host))
    if host.get("driver") != "absent":
        files |= {"sys/module/amdgpu/initstate": "live\n"}
        files |= {"sys/module/amdgpu/version": f"{host['driver']}\n"} if "driver" in host else {}
        files |= _devices(gpus)
        files |= {} if host.get("kfd") == "hidden" else _topology(host, gpus)
    opens = {path: bool(state) for path, state in _device_nodes(host, gpus)}
    files |= dict.fromkeys((path.lstrip("/") for path in opens), "")
    files["recording.json"] = json.dumps(
        {"device_nodes": {path: {"mode": "0660", "group": GROUP, "opens": state} for path, state in opens.items()}}
    )
    return files


def _gpus(host: Host) -> Iterator[dict[str, Any]]:
    """One entry for each KFD node that is a GPU, in order."""
    node = CPU_NODES
    for kind in host.get("gpus", ()):
        for place, (address, minor) in enumerate(kind["packages"].items()):
            for part in range(kind.get("parts", 1)):
                yield {**kind, "node": node, "package": place, "address": address, "part": part, "minor": minor + part}
                node += 1


def _machine(host: Host) -> Iterator[tuple[str, str]]:
    size = host.get("memory_gib", 64) * 2**20
    yield "proc/meminfo", f"MemTotal: {size} kB\nMemFree: {size // 2} kB\nMemAvailable: {size // 2} kB\n"
    yield "proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\n"
    yield "proc/sys/kernel/osrelease", f"{host.get('kernel', '6.8.0-60-generic')}\n"
    yield "sys/devices/system/cpu/online", f"0-{host.get('cores', 16) - 1}\n"
    yield "sys/devices/system/node/node0/cpulist", f"0-{host.get('cores', 16) - 1}\n"


def _device_nodes(host: Host, gpus: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, bool]]:
    """Each device node that is there, and whether it opens."""
    closed, granted = host.get("closed", ()), host.get("granted")
    if host.get("driver") != "absent" or host.get("kfd") == "stale":
        yield "/dev/kfd", "kfd" not in closed
    for gpu in gpus:
        if host.get("driver") != "absent" and (granted is None or gpu["minor"] in granted):
            yield f"/dev/dri/renderD{gpu['minor']}", gpu["minor"] not in closed


def _devices(gpus: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What every container sees of every GPU: this is not filtered."""
    files = {}
    for gpu in gpus:
        folder = f"sys/class/drm/renderD{gpu['minor']}/device"
        if gpu["part"]:
            files[f"{folder}/uevent"] = "DRIVER=amdgpu_xcp_drv\nMODALIAS=platform:amdgpu_xcp\n"
            continue
        compute, _, memory = gpu.get("partition", "/").partition("/")
        texts = {
            "uevent": f"DRIVER=amdgpu\nPCI_ID=1002:{gpu['device_id'].upper()}\nPCI_SLOT_NAME={gpu['address']}\n",
            "vendor": "0x1002",
            "device": f"0x{gpu['device_id']}",
            "revision": f"0x{gpu.get('revision', '00')}",
            "numa_node": "-1" if len(gpu["packages"]) == 1 else str(gpu["package"] * 2 // len(gpu["packages"])),
            "unique_id": f"{_unique_id(gpu):016x}" if gpu.get("unique", True) else None,
            "mem_info_vram_total": gpu["vram_bytes"],
            "mem_info_vram_used": gpu.get("vram_used_bytes", 300 << 20),
            "mem_info_gtt_total": gpu.get("gtt_bytes"),
            "mem_info_gtt_used": gpu.get("gtt_used_bytes"),
            "current_compute_partition": compute,
            "current_memory_partition": memory,
        }
        files |= {f"{folder}/{name}": f"{text}\n" for name, text in texts.items() if text not in (None, "")}
    return files


def _topology(host: Host, gpus: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    files = {}
    for node in range(CPU_NODES):
        files[f"{NODES}/{node}/gpu_id"] = "0\n"
        files[f"{NODES}/{node}/properties"] = "cpu_cores_count 96\nsimd_count 0\n"
    for gpu in gpus:
        granted = host.get("granted")
        if granted is None or gpu["minor"] in granted:
            files |= _node(gpu, gpus)
        else:  # the device cgroup refuses the reading: a file that is there and has nothing, or none
            files[f"{NODES}/{gpu['node']}/gpu_id"] = ""
    return files


def _node(gpu: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    folder = f"{NODES}/{gpu['node']}"
    facts = {
        "cpu_cores_count": 0,
        "simd_count": gpu["units"] * gpu["simd_per_cu"],
        "simd_per_cu": gpu["simd_per_cu"],
        "gfx_target_version": gpu["gfx_target_version"],
        "vendor_id": 4098,
        "device_id": int(gpu["device_id"], 16),
        "location_id": _location(gpu),
        "domain": int(gpu["address"].split(":")[0], 16),
        "drm_render_minor": gpu["minor"],
        "hive_id": 7 if "hives" in gpu else 0,
        **({"unique_id": _unique_id(gpu)} if gpu.get("unique", True) else {}),
        **gpu.get("properties", {}),
    }
    files = {
        f"{folder}/gpu_id": f"{1000 + gpu['node']}\n",
        f"{folder}/properties": _lines(facts),
        f"{folder}/mem_banks/0/properties": _lines({"heap_type": 1, "size_in_bytes": gpu["bank_bytes"], "flags": 0}),
    }
    for link, (other, kind, weight) in enumerate(_links(gpu, gpus)):
        files[f"{folder}/io_links/{link}/properties"] = _lines(
            {"type": kind, "node_from": gpu["node"], "node_to": other, "weight": weight}
        )
    return files


def _links(gpu: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int, int]]:
    """(node, 2 for PCIe or 11 for XGMI, weight): to a CPU, and to all others of the hive."""
    yield 0, 2, 20
    for other in gpus:
        if other["node"] == gpu["node"] or other["device_id"] != gpu["device_id"]:
            continue
        pair = sorted((gpu["package"], other["package"]))
        if pair[0] == pair[1]:
            yield other["node"], 11, 13
        elif any({*pair} <= set(hive) for hive in gpu.get("hives", ())):
            hops = 1 if "one_hop" not in gpu or pair in gpu["one_hop"] else 2
            yield other["node"], 11, 41 if gpu.get("parts", 1) > 1 else 15 * hops


def _location(gpu: Mapping[str, Any]) -> int:
    bus, rest = gpu["address"].split(":")[1:]
    device, function = rest.split(".")
    plain = int(bus, 16) << 8 | int(device, 16) << 3 | int(function)
    part = int(gpu["part"])
    return plain | (part << 28 if gpu.get("part_in") == "high bits" else part)


def _unique_id(gpu: Mapping[str, Any]) -> int:
    return _FIRST_UNIQUE_ID + int(gpu["address"].split(":")[1], 16)


def _lines(facts: Mapping[str, int]) -> str:
    return "".join(f"{key} {value}\n" for key, value in facts.items())
