"""A model's config in, its tensors out: every name, shape and kind, and the bytes they have in a checkpoint.

Builds the model on PyTorch's device "meta", which holds shapes and no numbers. Knows no card and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

BF16_BYTES, F32_BYTES = 2, 4
FP8_BLOCK = (128, 128)
MXFP4_GROUP = 32  # elements that share one scale of a byte (OCP microscaling formats, 5.2)
# What families call by a name of their own, though it is another's architecture: the class that reads it.
_SAME_AS = {"kimi_k2": "deepseek_v3"}
# The only tensors that 16-bit checkpoints of these families keep in 32 bits.
_IN_32_BITS = ("e_score_correction_bias",)
# Stored without a copy of their own name, beside the layers: the head of DeepSeek's extra layer for drafting.
_DRAFT_LAYER_FAMILIES = ("deepseek_v3", "deepseek_v32", "glm4_moe", "glm_moe_dsa")


class UnknownModelError(Exception):
    """A config that names a model, or a format of its weights, that is not known here; the sentence says which."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One tensor of the model. `matrices` are the shapes that a checkpoint stores it in, where its elements take part
    in a matrix product (and so may be quantised); empty for norms, biases, tables, routers.
    """

    name: str
    elements: int
    matrices: tuple[tuple[int, int], ...] = ()
    bytes_each: int = BF16_BYTES


def weights_of(config: Mapping[str, Any]) -> list[Weight]:
    """The tensors of the model that a config describes, tied ones once.

    Raises:
        UnknownModelError: the transformers package has no such model.
    """
    model = _built(config)
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    linear = {name for name, module in model.named_modules() if type(module).__name__ == "Linear"}
    return [
        Weight(
            name=name,
            elements=tensor.numel(),
            matrices=tuple(_matrices(name, tuple(tensor.shape), linear)),
            bytes_each=F32_BYTES if name.endswith(_IN_32_BITS) else BF16_BYTES,
        )
        for name, tensor in model.state_dict().items()
        if name not in tied
    ]


def draft_weights(config: Mapping[str, Any], weights: Sequence[Weight]) -> list[Weight]:
    """The layers for drafting (multi-token prediction) that the checkpoint holds behind the last one and an engine
    does not load: each a layer like the last, a matrix that joins two states, three norms, and copies of both tables
    (https://github.com/deepseek-ai/DeepSeek-V3/blob/main/README_WEIGHTS.md).
    """
    count = config.get("num_nextn_predict_layers") or 0
    if not count or _family(config) not in _DRAFT_LAYER_FAMILIES:
        return []
    layers, hidden, vocabulary = config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]
    last = f"model.layers.{layers - 1}."
    extra = [weight for weight in weights if weight.name.startswith(last)]
    own = {"eh_proj": 2 * hidden * hidden, "enorm": hidden, "hnorm": hidden, "shared_head.norm": hidden,
           "embed_tokens": vocabulary * hidden, "shared_head.head": vocabulary * hidden}  # fmt: skip
    return count * [*extra, *(Weight(name=f"{last}{name}.weight", elements=number) for name, number in own.items())]


def stored_bytes(weights: Sequence[Weight], precision: str, config: Mapping[str, Any]) -> int:
    """The bytes of a checkpoint of these weights in that precision.

    Raises:
        UnknownModelError: no rule for that precision.
    """
    if precision in ("bf16", "fp16"):
        return sum(BF16_BYTES * weight.elements for weight in weights)
    said: Mapping[str, Any] = config.get("quantization_config") or {}
    skipped = tuple(said.get("modules_to_not_convert") or ("lm_head",))
    if precision == "fp8" and said.get("quant_method") in (None, "fp8"):
        block = tuple(said.get("weight_block_size") or FP8_BLOCK)
        return sum(_fp8_bytes(weight, block, _scale_bytes(config), skipped) for weight in weights)
    if precision == "fp4" and said.get("quant_method") == "mxfp4":
        return sum(_mxfp4_bytes(weight) for weight in weights)
    raise UnknownModelError(f"no rule is known for the bytes of {precision} in the format {said.get('quant_method')}")


def _built(config: Mapping[str, Any]) -> Any:
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    words = {key: value for key, value in config.items() if key not in ("quantization_config", "auto_map")}
    architecture, family = (config.get("architectures") or [""])[0], _family(config)
    if family not in CONFIG_MAPPING or not hasattr(transformers, architecture):
        raise UnknownModelError(f"transformers {transformers.__version__} knows no {architecture or family}")
    with torch.device("meta"):
        return getattr(transformers, architecture)(CONFIG_MAPPING[family].from_dict(words | {"model_type": family}))


def _family(config: Mapping[str, Any]) -> str:
    said = str(config.get("model_type"))
    return _SAME_AS.get(said, said)


def _matrices(name: str, shape: tuple[int, ...], linear: set[str]) -> Iterator[tuple[int, int]]:
    """A linear layer's own matrix; of a stack of experts two for each, or three where gate and up lie in one."""
    if len(shape) == 2 and name.removesuffix(".weight") in linear:
        yield (shape[0], shape[1])
    elif len(shape) == 3 and ".experts." in name:
        experts, rows, columns = shape
        if name.endswith("gate_up_proj"):
            experts, rows = 2 * experts, rows // 2
        for _ in range(experts):
            yield (rows, columns)


def _scale_bytes(config: Mapping[str, Any]) -> int:
    """Qwen's fp8 checkpoints keep their scales in BF16; DeepSeek's and those made after its pattern in F32."""
    return BF16_BYTES if _family(config).startswith("qwen") else F32_BYTES


def _fp8_bytes(weight: Weight, block: tuple[int, ...], scale_bytes: int, skipped: Sequence[str]) -> int:
    if not weight.matrices or _is_skipped(weight.name, skipped):
        return weight.elements * weight.bytes_each
    scales = sum(math.ceil(rows / block[0]) * math.ceil(columns / block[1]) for rows, columns in weight.matrices)
    return weight.elements + scales * scale_bytes


def _mxfp4_bytes(weight: Weight) -> int:
    """Only stacks of experts are stored so: half a byte an element, and a scale of one byte for each group."""
    if ".experts." not in weight.name or not weight.matrices:
        return weight.elements * weight.bytes_each
    return weight.elements // 2 + weight.elements // MXFP4_GROUP


def _is_skipped(name: str, skipped: Sequence[str]) -> bool:
    """A module is skipped by its path, by the beginning of it, or by one of the path's words."""
    module = name.removesuffix(".weight")
    return any(
        fnmatchcase(module, pattern) or module.startswith(f"{pattern}.") or pattern in module.split(".")
        for pattern in skipped
    )
