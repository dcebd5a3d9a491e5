"""What a GPU's driver measures now: a PCI address in; memory used, power and temperature out, each None where the
driver does not say.

Reads a few files of /sys, which anybody may: hwmon is the kernel's own interface for every vendor, mem_info_vram_* are
amdgpu's (docs.kernel.org, hwmon/sysfs-interface and gpu/amdgpu/driver-misc). Starts no process and asks no library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T", int, float)

_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)
# Instinct GPUs have no average, and no edge sensor: the junction is temp2 there, and the hottest spot everywhere.
_POWER = ("power1_average", "power1_input")
_TEMPERATURE = ("temp2_input", "temp1_input")


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """One GPU's, or several GPUs' together."""

    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_watts: float | None = None
    temperature_celsius: float | None = None


def read_sensors(pci_address: str, root: Path = Path("/")) -> Sensors:
    """One GPU's sensors."""
    if not _ADDRESS.fullmatch(pci_address):  # a uuid, or what a stranger's label says
        return Sensors()
    device = root / "sys/bus/pci/devices" / pci_address.lower()
    monitors = sorted(device.glob("hwmon/hwmon*"))
    power = _first(monitor / name for monitor in monitors for name in _POWER)
    heat = _first(monitor / name for monitor in monitors for name in _TEMPERATURE)
    return Sensors(
        memory_used_bytes=_number(device / "mem_info_vram_used"),
        memory_total_bytes=_number(device / "mem_info_vram_total"),
        power_watts=power / 1e6 if power is not None else None,  # microwatts
        temperature_celsius=heat / 1e3 if heat is not None else None,  # thousandths of a degree
    )


def together(sensors: Iterable[Sensors]) -> Sensors:
    """Memory and power added up, and the highest temperature; None where one of them does not say."""
    each = list(sensors)
    return Sensors(
        memory_used_bytes=_sum(one.memory_used_bytes for one in each),
        memory_total_bytes=_sum(one.memory_total_bytes for one in each),
        power_watts=_sum(one.power_watts for one in each),
        temperature_celsius=max((one.temperature_celsius for one in each if one.temperature_celsius is not None),
                                default=None),
    )  # fmt: skip


def _sum(values: Iterable[T | None]) -> T | None:
    known = list(values)
    there = [one for one in known if one is not None]
    return sum(there[1:], there[0]) if there and len(there) == len(known) else None


def _first(paths: Iterable[Path]) -> int | None:
    return next((value for path in paths if (value := _number(path)) is not None), None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):  # a sleeping or reset GPU answers EBUSY or EPERM
        return None
