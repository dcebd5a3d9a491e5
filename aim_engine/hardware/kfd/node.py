"""One GPU as the kernel's compute driver tells of it: the texts of its files in, its facts as values out.

Knows the kernel's numbers (gfx versions, memory banks, partition bits), from its source and from public dumps; none of
it was tried on an AMD GPU here. Knows nothing of the other GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from aim_engine.hardware.kfd.read import number, package_of
from aim_engine.hardware.products import Product, product_by_device_id

_MOST_MEMORY = 1 << 60
_MODE = re.compile(r"[A-Z]{3}")
_MEMORY_MODE = re.compile(r"NPS[1-9]")
# What the compute units say where the driver's word for the mode is hidden: how many times this fits into the product.
_MODE_OF_PARTS = {2: "DPX", 3: "TPX", 4: "QPX"}


@dataclass(frozen=True, kw_only=True)
class KfdNode:
    """A KFD node that is a GPU: its properties, the size of its memory banks, the files of its own device, and those
    of the package's first partition, which alone has what concerns the whole package.
    """

    number: int
    gpu_id: int
    facts: Mapping[str, int]
    bank_bytes: int
    links: tuple[Mapping[str, int], ...] = ()
    device: Mapping[str, str]
    first: Mapping[str, str]

    @cached_property
    def package(self) -> str:
        """The PCI address of the package, with the function 0."""
        return package_of(self.facts.get("location_id", 0), self.facts.get("domain", 0))

    @property
    def part(self) -> int:
        """Which partition this is: in bits 31 to 28 of its location on newer drivers, on older ones its function."""
        location = self.facts.get("location_id", 0)
        return (location >> 28 & 0xF or location & 7) if self.is_part else 0

    @property
    def address(self) -> str:
        """A partition has its number for a function, a whole GPU its own: a virtual function may have any."""
        function = self.part if self.is_part else self.facts.get("location_id", 0)
        return f"{self.package[:-1]}{function & 7}"

    @property
    def minor(self) -> int | None:
        return self.facts.get("drm_render_minor") or None

    @property
    def render_node(self) -> str | None:
        return f"/dev/dri/renderD{self.minor}" if self.minor else None

    @property
    def compute_units(self) -> int | None:
        together, each = self.facts.get("simd_count", 0), self.facts.get("simd_per_cu", 0)
        return together // each if each and together >= each else None

    @cached_property
    def device_id(self) -> str | None:
        told = self.facts.get("device_id", 0)
        return f"0x{told:04x}" if 0 < told <= 0xFFFF else _hex(self.first.get("device"), 4)

    @cached_property
    def product(self) -> Product | None:
        revision = _hex(self.first.get("revision"), 2)
        return (
            product_by_device_id(self.device_id, revision, compute_units=self.compute_units) if self.device_id else None
        )

    @property
    def gfx(self) -> str | None:
        """90402 is gfx942, 110501 gfx1151: the last two parts are shown in hex."""
        version = self.facts.get("gfx_target_version", 0)
        major, minor, step = version // 10000, version // 100 % 100, version % 100
        if 0 < major < 100 and minor < 16 and step < 16:
            return f"gfx{major}{minor:x}{step:x}"
        return self.product.gfx if self.product else None

    @cached_property
    def said_mode(self) -> str | None:
        said = (self.first.get("current_compute_partition") or "").strip()
        return said if _MODE.fullmatch(said) else None

    @cached_property
    def compute_mode(self) -> str | None:
        """As the driver says it, else as the compute units do."""
        whole, own = self.product.compute_units if self.product else None, self.compute_units
        # Instinct alone can be partitioned; a Radeon with fewer units is another Radeon
        if self.said_mode or not whole or not own or whole % own or not (self.gfx or "").startswith("gfx9"):
            return self.said_mode
        parts = whole // own
        return None if parts == 1 else "CPX" if self.facts.get("num_xcc") == 1 else _MODE_OF_PARTS.get(parts, "CPX")

    @property
    def is_part(self) -> bool:
        return self.compute_mode not in (None, "SPX")

    @property
    def partition(self) -> str | None:
        said = (self.first.get("current_memory_partition") or "").strip()
        memory_mode = said if _MEMORY_MODE.fullmatch(said) else None
        return "/".join(mode for mode in (self.compute_mode, memory_mode) if mode) or None

    @cached_property
    def memory_bytes(self) -> int:
        """What the compute driver grants, which is what an engine gets; 0 where it is not known."""
        whole = 0 if self.is_part else number(self.device.get("mem_info_vram_total")) or 0
        size = self.bank_bytes or whole
        return size if size <= _MOST_MEMORY else 0

    def free_bytes(self, *, shares_package: bool) -> int | None:
        """What is free of it. The driver counts a package's memory as one: of a partition with memory of its own
        nothing is known.
        """
        size, total = self.memory_bytes, number(self.first.get("mem_info_vram_total"))
        used = number(self.first.get("mem_info_vram_used"))
        if not size or (self.is_part and not shares_package):
            return None
        if total and size > total and not self.is_part:  # an APU whose compute driver takes all from the host's memory
            used = number(self.first.get("mem_info_gtt_used"))
        return max(0, size - used) if used is not None else None

    @property
    def unique_id(self) -> str | None:
        told = self.facts.get("unique_id", 0)
        text = f"{told:016x}" if told else (_hex(self.first.get("unique_id"), 16) or "0x")[2:]
        return text if text.strip("0") and len(text) == 16 else None

    @property
    def numa_node(self) -> int | None:
        """-1 on a machine with one node."""
        told = number(self.first.get("numa_node"))
        return told if told is not None and told < 1 << 16 else None


def _hex(text: str | None, digits: int) -> str | None:
    word = (text or "").strip().lower().removeprefix("0x")
    return f"0x{word.zfill(digits)}" if re.fullmatch(rf"[0-9a-f]{{1,{digits}}}", word) else None
