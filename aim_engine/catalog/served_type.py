"""A checkpoint's config and its tensors in; the 16 bits that an engine serves it in out, and a sentence where these are
not the ones it is stored in. For checkpoints that are not quantised; knows no GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.catalog.checkpoint import Tensor

_KEYS = ("dtype", "torch_dtype")
_FLOATS = {"F64", "F32", "F16", "BF16"}
# vLLM 0.32 refuses float16 for these (vllm/config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS)
_NO_FP16 = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})


def said_type(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """The type that the config names for its weights: "bfloat16", "float32", ...; "" where it names none."""
    found = (str(part[key]) for part in (text, config) for key in _KEYS if part.get(key))
    return next(found, "")


def served_type(config: Mapping[str, Any], text: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    """As vLLM's `dtype auto` has it, which is also what the recipes made here name: the config's own word, else what
    all tensors have in common, else 32 bits; and for what is not in 16 bits, bf16 (_resolve_auto_dtype and
    get_torch_dtype of vLLM 0.32).
    """
    said = said_type(config, text)
    stored = {tensor.dtype for tensor in tensors.values()} & _FLOATS
    is_fp16 = said == "float16" if said else stored == {"F16"}
    if is_fp16 and str(config.get("model_type")) in _NO_FP16:
        return "bf16", f"its weights are in fp16, which the engine refuses for {config['model_type']}: bf16 is served"
    if is_fp16:
        return "fp16", ""
    if said == "bfloat16" or (not said and stored == {"BF16"}):
        return "bf16", ""
    if said == "float32" or (not said and "F32" in stored):
        return "bf16", "its weights are in fp32, and are served in bf16, in half the memory"
    return "bf16", f"its config.json says {said or 'nothing'} of the type of its weights, and they are served in bf16"
