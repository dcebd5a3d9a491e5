"""Product facts: a PCI device id or a typed name in, a frozen `Product` out. The facts themselves are `products.yaml`.

Knows nothing of what is in this machine, and nothing of recipes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aim_engine.errors import InputError

_FACTS = Path(__file__).with_name("products.yaml")
# "AMD Instinct MI300X", "AMD_Instinct_MI300X", "Radeon(TM) RX 7900 XTX" and "7900xtx" all mean what they seem to
_FAMILY_WORDS = re.compile(r"^(?:amd|instinct|radeon|tm|ai|pro|rx)+")
_TAIL_WORDS = re.compile(r"(?:oam|graphics)$")


@dataclass(frozen=True, kw_only=True)
class Product:
    """One GPU product. Every figure is for one device as the operating system counts it.

    An MI250X package is two devices (`devices_per_package`) of 64 GiB each, so "MI250X:2" declares one package.
    `bandwidth` is bytes a second; `peak_tflops` maps "bf16", "fp8", "int8" and "fp4" to dense TFLOP/s, without the
    ones that are not native or not published; `low_precisions` are the formats below 16 bits that the matrix units
    compute in; `aiter` says whether AMD's kernel library AITER has kernels for it, `all_reduce` which all-reduces of
    vLLM's own ("custom", "quick") run on it, besides RCCL's. `device_ids` are texts such as "0x74a1", or "0x744c:c8"
    for one revision; `virtual_ids` those of them by which a guest knows its virtual function.
    """

    name: str
    full_name: str
    vendor: str
    gfx: str
    memory_bytes: int
    bandwidth: int
    peak_tflops: Mapping[str, float] = field(hash=False)
    max_per_node: int
    link: str
    source: str
    device_ids: tuple[str, ...] = ()
    virtual_ids: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    compute_units: int | None = None
    devices_per_package: int = 1
    low_precisions: tuple[str, ...] = ()
    aiter: bool = False
    all_reduce: tuple[str, ...] = ()

    @property
    def has_fp8(self) -> bool:
        """Its matrix units compute in 8-bit floating point, of either kind."""
        return any(name.startswith("fp8") for name in self.low_precisions)


# Formats of checkpoints that no GPU of a vendor can compute in, and why. An add-on of vLLM's (petit) converts NVFP4 on
# some AMD GPUs; it is in no ROCm image, so nothing is planned on it.
_REFUSED_FORMATS = {
    "amd": {"nvfp4": "the checkpoint is quantised to NVFP4, NVIDIA's own format, which no AMD GPU computes in"},
}


def refused_format(vendor: str, quantization: str) -> str:
    """Why a checkpoint quantised so cannot be served on that vendor's GPUs, or ""."""
    return _REFUSED_FORMATS.get(vendor, {}).get(quantization, "")


@cache
def all_products() -> tuple[Product, ...]:
    """Every product known, in the order of the file: Instinct by age, then Radeon."""
    return tuple(_product(entry) for entry in _read_facts())


def product_by_device_id(
    device_id: str, revision: str | None = None, *, compute_units: int | None = None
) -> Product | None:
    """The product with this PCI device id ("0x74a1", "74A1"), or None when it is not known.

    `revision` ("0xc8", "c8") tells products apart that share an id; so does `compute_units`, for MI250 and MI250X.
    """
    wanted = _hex(device_id, 4)
    exact = _candidates(f"0x{wanted}:{_hex(revision, 2)}") if revision is not None else ()
    candidates = (*exact, *_candidates(f"0x{wanted}"))
    for product in candidates:
        if compute_units is not None and product.compute_units == compute_units:
            return product
    return candidates[0] if candidates else None


def is_virtual_function(device_id: str) -> bool:
    """Whether a device with this id is a virtual function, whose modes its host sets."""
    return any(f"0x{_hex(device_id, 4)}" in product.virtual_ids for product in all_products())


def product_names() -> tuple[str, ...]:
    """What the products are called, each once, in the table's order."""
    return tuple(dict.fromkeys(product.name for product in all_products()))


def product_by_name(name: str) -> Product:
    """The product called `name`; case, spaces, dashes and the family's name in front do not matter.

    Raises:
        InputError: there is none; the hint lists near names and the legal ones.
    """
    key = _name_key(name)
    names = _names()
    if key in names:
        return names[key]
    near = _near(key)
    legal = ", ".join(product.name for product in all_products())
    raise InputError(
        f"{_shown(name)} is not a GPU product that AIM Engine knows",
        hint=(f"did you mean {' or '.join(near)}? " if near else "") + f"known products: {legal}",
    )


def _near(key: str) -> tuple[str, ...]:
    """Up to three products whose names resemble `key`, without repeating one that matched by an alias as well."""
    matches = difflib.get_close_matches(key, _names(), n=6, cutoff=0.6)
    return tuple(dict.fromkeys(_names()[match].name for match in matches))[:3]


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")


def _hex(text: str, digits: int) -> str:
    return text.strip().lower().removeprefix("0x").zfill(digits)


def _name_key(name: str) -> str:
    squeezed = re.sub(r"[^a-z0-9]", "", name.lower())
    return _TAIL_WORDS.sub("", _FAMILY_WORDS.sub("", squeezed))


@cache
def _names() -> dict[str, Product]:
    """Every key a product may be found by; a product's own name is never hidden by another's alias."""
    keys: dict[str, Product] = {}
    for product in all_products():
        for alias in (product.full_name, *product.aliases):
            keys.setdefault(_name_key(alias), product)
    keys.update({_name_key(product.name): product for product in all_products()})
    return keys


@cache
def _candidates(device_id: str) -> tuple[Product, ...]:
    return tuple(product for product in all_products() if device_id in product.device_ids)


def _read_facts() -> Iterable[Mapping[str, Any]]:
    import yaml  # here: a machine without a known GPU need not pay for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is about eight times as fast, where it is built
    with _FACTS.open(encoding="utf-8") as file:
        entries: Iterable[Mapping[str, Any]] = yaml.load(file, Loader=loader)  # noqa: S506  both loaders are safe ones
    return entries


def _product(entry: Mapping[str, Any]) -> Product:
    return Product(
        **{
            "vendor": "amd",
            **{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in entry.items()
                if key != "tflops"
            },
            "bandwidth": entry["bandwidth"] * 10**9,
            "peak_tflops": {name: float(rate) for name, rate in entry["tflops"].items()},
            **{key: tuple(f"0x{one}" for one in entry.get(key, ())) for key in ("device_ids", "virtual_ids")},
        }
    )
