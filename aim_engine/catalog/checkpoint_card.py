"""A `Checkpoint` in, its `ModelCard` out. Opens no file and asks nobody."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aim_engine.catalog import quantization
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.checkpoint import Checkpoint, Tensor, quantization_of
from aim_engine.catalog.config_numbers import text_part
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.model_shape import architecture, check_shape
from aim_engine.catalog.served_type import said_type, served_type
from aim_engine.catalog.tied_tables import is_tied
from aim_engine.catalog.weights import layers_in, weight_parts


def card_of(checkpoint: Checkpoint) -> ModelCard:
    """The card of a checkpoint.

    Raises:
        ModelAccessError: its config has a number that no model can have.
    """
    config = checkpoint.config
    text = text_part(config)
    check_shape(text, checkpoint.config_path)
    precision, note = _precision(config, text, checkpoint.tensors)
    shape, tied = architecture(text), is_tied(config, text)
    family = str(text.get("model_type"))
    return ModelCard(
        model_id=checkpoint.model_id,
        name=checkpoint.model_id,
        family=_first_word(config.get("architectures")),
        precision=precision,
        architecture=shape,
        weights_bytes=_weights(checkpoint.tensors, precision) or _weights_of_files(checkpoint, text, precision),
        weights_basis="exact" if checkpoint.tensors else "computed",
        quantization=quantization.method_of(config),
        cache=quantization.cache_of(config),
        source=checkpoint.source,
        doubts=(*checkpoint.doubts, *_doubts(config, checkpoint.config_path), *_fewer_layers(checkpoint, shape)),
        notes=(note,) if note else (),
        weight_parts=weight_parts(checkpoint.tensors, shape, family=family, tied=tied) if shape else (),
        tied=tied,
    )


def _doubts(config: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """vLLM and transformers look a model up by its model_type; only a few are known without, or bring their code."""
    if config.get("model_type") or config.get("auto_map"):
        return ()
    return (f"{path} names no model_type: the engine may not know the model",)


def _fewer_layers(checkpoint: Checkpoint, shape: Architecture | None) -> tuple[str, ...]:
    """More than the config says may be for drafting, as DeepSeek's last is; fewer leave an engine without weights."""
    there = layers_in(checkpoint.tensors)
    if shape is None or not 0 < there < shape.layers:
        return ()
    return (f"the files of {checkpoint.model_id} hold {there} layers, and its config.json says {shape.layers}",)


def _first_word(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else ""
    return first if isinstance(first, str) else ""


def _precision(
    config: Mapping[str, Any], text: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[str | None, str]:
    """What it is served in, and what is to be said of that."""
    if quantization_of(config):
        return quantization.precision_of(config), ""
    return served_type(config, text, tensors)


def _weights(tensors: Mapping[str, Tensor], precision: str | None) -> dict[str, int]:
    """Bytes by the precision they are served in: as they are, or two bytes an element in a 16-bit precision."""
    if not tensors:
        return {}
    if precision in (None, "bf16", "fp16"):
        elements = sum(math.prod(tensor.shape) for tensor in tensors.values())
        return {"bf16": 2 * elements, "fp16": 2 * elements}
    return {str(precision): sum(tensor.bytes for tensor in tensors.values())}


def _weights_of_files(checkpoint: Checkpoint, text: Mapping[str, Any], precision: str | None) -> dict[str, int]:
    """The same from the sizes of files whose headers cannot be read: pickles are little more than their tensors."""
    if not checkpoint.file_bytes:
        return {}
    if precision not in (None, "bf16", "fp16"):
        return {str(precision): checkpoint.file_bytes}
    is_wide = said_type(checkpoint.config, text) == "float32"
    served = checkpoint.file_bytes // 2 if is_wide else checkpoint.file_bytes
    return {"bf16": served, "fp16": served}
