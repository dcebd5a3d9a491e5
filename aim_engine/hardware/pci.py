"""The display adapters and accelerators on the PCI bus, whether they have a driver or not: a root in, `PciDevice`s out.

A container sees its host's bus, so that a GPU here need not be one that may be used. Knows no vendor's drivers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aim_engine.hardware.cgroup import read_text

AMD, NVIDIA = "0x1002", "0x10de"
_BUS = "sys/bus/pci/devices"
_DISPLAY, _ACCELERATOR = "0x03", "0x1200"  # pci_ids.h: PCI_BASE_CLASS_DISPLAY, and Instinct without a display
_MOST_DEVICES = 4096
_SHORT = 64  # each of these files holds one number


@dataclass(frozen=True, kw_only=True)
class PciDevice:
    """One device; `class_code` is its six digits of hex ("0x030200"), `driver` what is bound to it, or ""."""

    address: str
    device_id: str
    class_code: str
    driver: str = ""

    @property
    def why_unused(self) -> str:
        """For a sentence on a GPU whose vendor's driver is not there."""
        return f"its driver is {self.driver}" if self.driver else "its driver is not loaded"


def display_devices(root: Path, vendor: str) -> tuple[PciDevice, ...]:
    """The vendor's, in the order of their addresses."""
    folder = root / _BUS
    try:
        changed = folder.stat().st_mtime_ns
    except (OSError, ValueError):
        return ()
    found = (_device(folder / address) for address, maker in _makers(str(folder), changed) if maker == vendor)
    return tuple(device for device in found if device is not None)


@lru_cache(maxsize=1)
def _makers(folder: str, changed: int) -> tuple[tuple[str, str], ...]:
    """Address and vendor of those by the vendors we ask for. Kept for the layers that ask next: a server has hundreds
    of devices, each a file to read.
    """
    del changed
    return tuple(pair for pair in _every(folder) if pair[1] in (AMD, NVIDIA))


def _every(folder: str) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listdir(folder))[:_MOST_DEVICES]  # noqa: PTH208
    except OSError:
        return
    for name in names:
        yield name, _word(Path(folder, name, "vendor"))


def _device(folder: Path) -> PciDevice | None:
    class_code, device_id = _word(folder / "class"), _word(folder / "device")
    if not class_code.startswith((_DISPLAY, _ACCELERATOR)) or len(class_code) != len("0x030000"):
        return None
    return PciDevice(
        address=_printable(folder.name), device_id=device_id, class_code=class_code, driver=_driver(folder)
    )


def _driver(folder: Path) -> str:
    try:
        return _printable(Path(os.readlink(folder / "driver")).name)  # noqa: PTH115
    except (OSError, ValueError):
        return ""


def _word(path: Path) -> str:
    return _printable((read_text(path, most_bytes=_SHORT) or "").strip().lower())


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())
