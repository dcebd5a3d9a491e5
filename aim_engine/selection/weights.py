"""What one GPU holds of a model's weights: the parts of a checkpoint and a placement in, bytes out. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.weights import (
    DIVIDED,
    EMBEDDING,
    HEAD,
    KV_HEADS,
    STATE_GROUPS,
    VOCABULARY,
    WeightPart,
    state_groups,
)
from aim_engine.selection.stages import stages

_VOCABULARY_STEP = 64  # vllm/model_executor/layers/vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE


def weights_of_one_gpu(parts: Sequence[WeightPart], shape: Architecture, *, tied: bool, width: int, depth: int) -> int:
    """Bytes on the GPU that holds the most, of `width` x `depth` (tensor parallel, pipeline)."""
    sums = [0] * depth
    stage_of = {number: stage for stage, span in enumerate(stages(shape.layers, depth)) for number in span}
    for part in parts:
        held = _held(part, shape, width)
        if part.layer == EMBEDDING:
            sums[0] += held
        if part.layer == HEAD or (part.layer == EMBEDDING and tied and depth > 1 and part.share == VOCABULARY):
            sums[-1] += held
        if part.layer >= 0:
            sums[stage_of[part.layer]] += held
    return max(sums)


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
