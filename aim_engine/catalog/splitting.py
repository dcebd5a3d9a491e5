"""Over how many GPUs a model's layers can be cut: a shape, a precision and a number of GPUs in, the obstacles out.

Knows no recipe and no engine's options.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aim_engine.catalog.architecture import Architecture

FP8_BLOCK = 128  # block-scaled fp8: a rank's share of a layer must be whole blocks (vLLM, quantization/fp8.py)
# Whose fp8 checkpoints have one scale for each block of 128 x 128 (their config.json: weight_block_size); others' have
# one for each tensor, channel or row.
_BLOCK_SCALED_BY = ("Qwen/", "deepseek-ai/", "MiniMaxAI/", "moonshotai/")


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why the layers cannot be cut so; `kind` is one of catalog/problem_kinds.py's."""

    kind: str
    sentence: str


def is_block_scaled(checkpoint: str, precision: str) -> bool:
    """Whether a checkpoint has a scale for each block, by who publishes it."""
    return precision == "fp8" and checkpoint.startswith(_BLOCK_SCALED_BY)


def obstacles(shape: Architecture, size: int, *, blocks: bool, whole_experts: bool = False) -> Iterator[Obstacle]:
    """Heads and widths divide, KV heads divide or are repeated evenly (vLLM, ModelConfig.verify_with_parallel_config
    and QKVParallelLinear), and with `blocks` each share is whole ones. `whole_experts` are not cut at all.
    """
    if shape.attention_heads % size:
        yield Obstacle(kind="heads", sentence=f"{size} GPUs do not divide the model's {shape.attention_heads} heads")
    if not shape.kv_lora_rank and shape.kv_heads and shape.kv_heads % size and size % shape.kv_heads:
        yield Obstacle(kind="heads", sentence=f"{size} GPUs do not divide the model's {shape.kv_heads} KV heads")
    dense = not shape.experts or (shape.expert_width and shape.expert_width != shape.intermediate_size)
    widths = {"MLP": shape.intermediate_size} if dense else {}
    if shape.experts and not whole_experts:
        widths["expert"] = shape.expert_width or shape.intermediate_size
    for name, width in widths.items():
        if width % size:
            yield Obstacle(
                kind="width", sentence=f"{size} GPUs do not divide the {width} columns of the model's {name}"
            )
        elif blocks and size > 1 and (width // size) % FP8_BLOCK:
            share = f"the {width} columns of the model's {name} leave {width // size} a GPU"
            yield Obstacle(
                kind="fp8-blocks", sentence=f"{share}, which is no whole number of fp8 blocks of {FP8_BLOCK}"
            )


def tensor_parallel_sizes(shape: Architecture, precision: str) -> tuple[int, ...]:
    """Over how many GPUs the model's layers can be cut; an fp8 checkpoint is taken to be scaled in blocks."""
    return tuple(size for size in _SIZES if not any(obstacles(shape, size, blocks=precision == "fp8")))


_SIZES = (1, 2, 4, 8)
