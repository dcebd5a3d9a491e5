"""What a recipe asks of vLLM's kernels against what its GPU has: a recipe's type, precision and switches in, complaints
out. The GPU's facts are hardware/products.yaml; which switch needs which is here (vLLM's vllm/platforms/rocm.py,
vllm/envs.py, and AMD's guide "vLLM V1 performance optimization").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from aim_engine.backends.base import Complaint
from aim_engine.catalog.recipe import ArgumentValue
from aim_engine.errors import InputError
from aim_engine.hardware.products import Product, product_by_name, refused_format


@dataclass(frozen=True, kw_only=True)
class _Need:
    """Something that `key` of a recipe makes vLLM do, and what is wrong where the product cannot."""

    key: str
    kind: str
    lacks: Callable[[Product], str]


def kernel_complaints(
    gpu_type: str, precision: str, checkpoint: str, args: Mapping[str, ArgumentValue], env: Mapping[str, str]
) -> Iterator[Complaint]:
    """What the GPU of that type has no kernels for; nothing for a type that nobody knows."""
    needs = list(_needs(precision, checkpoint, args, env))
    product = _product(gpu_type) if needs else None
    if product is None:
        return
    for need in needs:
        if sentence := need.lacks(product):
            yield Complaint(key=need.key, sentence=sentence, kind=need.kind)


def _needs(
    precision: str, checkpoint: str, args: Mapping[str, ArgumentValue], env: Mapping[str, str]
) -> Iterator[_Need]:
    if env.get("VLLM_ROCM_USE_AITER", "").lower() in ("1", "true"):
        yield _Need(key="env.VLLM_ROCM_USE_AITER", kind="aiter", lacks=_no_aiter)
    if env.get("VLLM_ROCM_QUICK_REDUCE_QUANTIZATION", "NONE").upper() not in ("", "NONE"):
        yield _Need(key="env.VLLM_ROCM_QUICK_REDUCE_QUANTIZATION", kind="quick-reduce", lacks=_no_quick_reduce)
    if precision == "fp8":
        yield _Need(key="precision", kind="fp8", lacks=_no_fp8)
    quantization = str(args.get("quantization") or "").lower()
    if quantization.endswith("fp8"):
        yield _Need(key="args.quantization", kind="fp8", lacks=_no_fp8)
    if quantization in ("modelopt_fp4", "nvfp4"):
        yield _Need(key="args.quantization", kind="nvfp4", lacks=_no_nvfp4)
    elif "nvfp4" in checkpoint.lower():  # its publishers put the format into the name
        yield _Need(key="huggingface_id", kind="nvfp4", lacks=_no_nvfp4)


def _no_aiter(product: Product) -> str:
    return "" if product.aiter else f"turns AITER on, which has no kernels for {_shown(product)}"


def _no_quick_reduce(product: Product) -> str:
    if "quick" in product.all_reduce:
        return ""
    return f"turns quick all-reduce on, which has no kernels for {_shown(product)}"


def _no_fp8(product: Product) -> str:
    return "" if product.has_fp8 else f"is fp8, in which {_shown(product)} does not compute"


def _no_nvfp4(product: Product) -> str:
    reason = refused_format(product.vendor, "nvfp4")
    return f"cannot be served: {reason}" if reason else ""


def _shown(product: Product) -> str:
    return f"{product.name} ({product.gfx})"


def _product(gpu_type: str) -> Product | None:
    try:
        return product_by_name(gpu_type)
    except InputError:
        return None
