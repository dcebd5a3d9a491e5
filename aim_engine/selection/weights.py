"""What one GPU holds of a model's weights: the parts of a checkpoint and a placement in, bytes out. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.terms import ServingTerms
from aim_engine.catalog.weights import (
    DIVIDED,
    EMBEDDING,
    EXPERTS,
    HEAD,
    KV_HEADS,
    OF_EXPERTS,
    STATE_GROUPS,
    VOCABULARY,
    WeightPart,
    state_groups,
)
from aim_engine.selection.stages import stages

_VOCABULARY_STEP = 64  # vllm/model_executor/layers/vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE


_MXFP4_BITS = 4 + 8 / 32  # half a byte an element, and a scale for each 32
_BIAS_BYTES = 2


def held_bytes(card: ModelCard, terms: ServingTerms, width: int) -> int:
    """What one GPU holds of a checkpoint whose headers were read, with what the engine pads it by."""
    assert card.architecture is not None
    ranks = width * terms.data_parallel_size
    held = weights_of_one_gpu(card.weight_parts, card.architecture, tied=card.tied, width=width,
                              depth=terms.pipeline_parallel_size, ranks=ranks, whole=terms.expert_parallel)  # fmt: skip
    return held + padding(card, terms, width)


def padding(card: ModelCard, terms: ServingTerms, width: int) -> int:
    """Bytes that one GPU's experts in MXFP4 are padded by: on ROCm until both their sizes are multiples of 256."""
    shape, step = card.architecture, terms.mxfp4_step
    if shape is None or not shape.experts or not step or card.quantization != "mxfp4":
        return 0
    ranks = width * terms.data_parallel_size
    columns, experts = shape.expert_width or shape.intermediate_size, shape.experts
    if terms.expert_parallel:
        experts = -(-experts // ranks)
    else:
        columns = -(-columns // ranks)
    rows, wide, high = shape.hidden_size, _up(columns, step), _up(shape.hidden_size, step)
    each = int(3 * (wide * high - columns * rows) * _MXFP4_BITS / 8) + _BIAS_BYTES * (
        2 * (wide - columns) + high - rows
    )
    layers = max(len(span) for span in stages(shape.layers, terms.pipeline_parallel_size))
    return layers * experts * each


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def weights_of_one_gpu(
    parts: Sequence[WeightPart],
    shape: Architecture,
    *,
    tied: bool,
    width: int,
    depth: int,
    ranks: int = 0,
    whole: bool = False,
) -> int:
    """Bytes on the GPU that holds the most, of `width` x `depth` (tensor parallel, pipeline). Experts are divided over
    `ranks` GPUs (0: the same `width`); a GPU has a part of each, or some that are `whole`.
    """
    experts = _Experts(count=shape.experts, ranks=ranks or width, whole=whole)
    sums = [0] * depth
    stage_of = {number: stage for stage, span in enumerate(stages(shape.layers, depth)) for number in span}
    for part in parts:
        held = experts.held(part) if part.share in (EXPERTS, OF_EXPERTS) else _held(part, shape, width)
        if part.layer == EMBEDDING:
            sums[0] += held
        if part.layer == HEAD or (part.layer == EMBEDDING and tied and depth > 1 and part.share == VOCABULARY):
            sums[-1] += held
        if part.layer >= 0:
            sums[stage_of[part.layer]] += held
    return max(sums)


@dataclass(frozen=True, kw_only=True)
class _Experts:
    count: int
    ranks: int
    whole: bool

    def held(self, part: WeightPart) -> int:
        if self.whole and self.ranks > 1 and self.count:
            return part.bytes * -(-self.count // self.ranks) // self.count
        return -(-part.bytes // self.ranks) if part.share == EXPERTS else part.bytes


def _held(part: WeightPart, shape: Architecture, width: int) -> int:
    if part.share == VOCABULARY:
        if not part.rows:
            return 0
        padded = -(-part.rows // _VOCABULARY_STEP) * _VOCABULARY_STEP
        return part.bytes // part.rows * -(-padded // width)
    if part.share == KV_HEADS and shape.kv_heads:
        return part.bytes * max(1, shape.kv_heads // width) // shape.kv_heads
    if part.share == STATE_GROUPS and (groups := state_groups(shape)):
        return part.bytes * (groups if groups % width == 0 else width) // groups // width
    if part.share == DIVIDED:
        return -(-part.bytes // width)
    return part.bytes  # whole, or not known to be divided
