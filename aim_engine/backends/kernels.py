"""What GPUs have no kernels for: a GPU type and what a recipe needs of it in, complaints out. The GPU's facts are
hardware/products.yaml; which of an engine's switches needs what is beside that engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aim_engine.backends.base import Complaint
from aim_engine.errors import InputError
from aim_engine.hardware.products import Product, product_by_name, refused_format


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something that `key` of a recipe makes an engine do, and what is wrong where the product cannot."""

    key: str
    kind: str
    lacks: Callable[[Product], str]


def complaints(gpu_type: str, needs: list[Need]) -> Iterator[Complaint]:
    """What the GPU of that type lacks of these; nothing for a type that nobody knows."""
    product = _product(gpu_type) if needs else None
    if product is None:
        return
    for need in needs:
        if sentence := need.lacks(product):
            yield Complaint(key=need.key, sentence=sentence, kind=need.kind)


def precision_needs(precision: str, checkpoint: str, quantization: str) -> Iterator[Need]:
    """What follows from the formats of the weights, which engines call alike."""
    if precision == "fp8":
        yield Need(key="precision", kind="fp8", lacks=_no_fp8)
    if quantization.endswith("fp8"):
        yield Need(key="args.quantization", kind="fp8", lacks=_no_fp8)
    if quantization in ("modelopt_fp4", "nvfp4"):
        yield Need(key="args.quantization", kind="nvfp4", lacks=_no_nvfp4)
    elif "nvfp4" in checkpoint.lower():  # its publishers put the format into the name
        yield Need(key="huggingface_id", kind="nvfp4", lacks=_no_nvfp4)


def no_aiter(product: Product) -> str:
    return "" if product.aiter else f"turns AITER on, which has no kernels for {_shown(product)}"


def no_quick_reduce(product: Product) -> str:
    if "quick" in product.all_reduce:
        return ""
    return f"turns quick all-reduce on, which has no kernels for {_shown(product)}"


def _shown(product: Product) -> str:
    return f"{product.name} ({product.gfx})"


def _no_fp8(product: Product) -> str:
    return "" if product.has_fp8 else f"is fp8, in which {_shown(product)} does not compute"


def _no_nvfp4(product: Product) -> str:
    reason = refused_format(product.vendor, "nvfp4")
    return f"cannot be served: {reason}" if reason else ""


def _product(gpu_type: str) -> Product | None:
    try:
        return product_by_name(gpu_type)
    except InputError:
        return None
