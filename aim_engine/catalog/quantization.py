"""How a checkpoint's weights are stored, by what its config says of it: a config in, the method's word and the
precision out. Knows no engine and no GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.catalog.checkpoint import quantization_of

NVFP4 = "nvfp4"
# Other words for the same method, as publishers write them.
_SAME_AS = {"compressed_tensors": "compressed-tensors", "auto-round": "inc", "intel/auto-round": "inc"}
# Methods that are of one precision.
_PRECISIONS = {"fp8": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "deepseek_v4_fp8": "fp8", "mxfp8": "fp8",
               "modelopt_mxfp8": "fp8", "mxfp4": "fp4", "gpt_oss_mxfp4": "fp4", "modelopt_fp4": "fp4", NVFP4: "fp4",
               "awq": "int4", "experts_int8": "int8"}  # fmt: skip
_USUAL = {"gptq": "int4", "bitsandbytes": "int4", "inc": "int4"}  # where the config leaves the bits out
METHODS = (
    NVFP4,
    "fp8",
    "awq",
    "gptq",
    "compressed-tensors",
    "quark",
    "mxfp4",
    "modelopt",
    "torchao",
    "bitsandbytes",
    "inc",
    "fbgemm_fp8",
    "mxfp8",
)  # the words that a model's card may say
# What the words of a type contain, where a method says it layer by layer (quark's dtype, ModelOpt's quant_algo,
# torchao's _type): the first that is found counts.
_WORDS = (("fp4", "fp4"), ("float4", "fp4"), ("w4a", "int4"), ("int4", "int4"), ("uint4", "int4"), ("fp8", "fp8"),
          ("float8", "fp8"), ("int8", "int8"))  # fmt: skip


def method_of(config: Mapping[str, Any]) -> str:
    """The word of the quantisation, as vLLM writes it; "nvfp4" where any layer is stored so, however that is said; ""
    for a checkpoint that is not quantised.
    """
    said = quantization_of(config)
    if any("nvfp4" in word or word == "modelopt_fp4" for word in _told(said, "quant_method", "quant_algo", "format")):
        return NVFP4
    method = said.get("quant_method")
    if isinstance(method, str) and method:
        return _SAME_AS.get(method.lower(), method.lower())
    return "modelopt" if "quant_algo" in said else ""  # ModelOpt's own file names no method


def precision_of(config: Mapping[str, Any]) -> str | None:
    """The precision of a quantised checkpoint's weights; None where its config does not tell."""
    method = method_of(config)
    if method in _PRECISIONS:
        return _PRECISIONS[method]
    said = quantization_of(config)
    return _by_bits(said) or _by_words(said) or _USUAL.get(method)


def cache_of(config: Mapping[str, Any]) -> str:
    """The precision that a checkpoint wants its KV cache kept in, "" where it wants none: compressed-tensors and newer
    ModelOpt describe it, older ModelOpt names it, Quark gives the layers of keys and values outputs of that type.
    """
    said = quantization_of(config)
    for scheme in (said.get("kv_cache_scheme"), said.get("kv_cache_quant_algo")):
        if isinstance(scheme, dict) and scheme.get("type") == "float" and scheme.get("num_bits") == 8:
            return "fp8"
        if isinstance(scheme, str) and scheme.lower() == "fp8":
            return "fp8"
    export, layers = said.get("export"), said.get("layer_quant_config")
    wanted = isinstance(export, dict) and export.get("kv_cache_group")
    return "fp8" if wanted and isinstance(layers, dict) and _outputs_fp8(layers) else ""


def _outputs_fp8(layers: Mapping[str, Any]) -> bool:
    outputs = (layer.get("output_tensors") for layer in layers.values() if isinstance(layer, dict))
    return any(isinstance(one, dict) and str(one.get("dtype")).startswith("fp8") for one in outputs)


def _by_bits(said: Mapping[str, Any]) -> str | None:
    if said.get("load_in_4bit") is True or said.get("load_in_8bit") is True:  # bitsandbytes
        return "int4" if said.get("load_in_4bit") is True else "int8"
    for part in _weights_of_groups(said):
        kind = "fp" if part.get("type") == "float" else "int"
        return _of_bits(part.get("num_bits"), kind)
    return _of_bits(said.get("bits"), "int")  # GPTQ, AutoRound


def _weights_of_groups(said: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """How compressed-tensors stores the weights of each group of layers."""
    groups = said.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        part = group.get("weights") if isinstance(group, dict) else None
        if isinstance(part, dict) and "num_bits" in part:
            yield part


def _of_bits(bits: Any, kind: str) -> str | None:
    """Fewer than four bits are kept in four by what is known here, and more in eight."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not 0 < bits <= 8:
        return None
    return f"{kind}{4 if bits <= 4 else 8}"


def _by_words(said: Mapping[str, Any]) -> str | None:
    """Weights come before what they are multiplied with: where both are named, the fewer bits are the weights'."""
    words = list(_told(said, "dtype", "quant_algo", "_type", "quant_type"))
    return next((precision for part, precision in _WORDS if any(part in word for word in words)), None)


def _told(said: Mapping[str, Any], *keys: str) -> Iterator[str]:
    """Every text under one of these keys, however deep, in small letters."""
    left: list[Any] = [said]
    while left:
        for key, value in left.pop().items():
            if isinstance(value, dict):
                left.append(value)
            elif key in keys and isinstance(value, str):
                yield value.lower()
