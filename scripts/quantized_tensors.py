"""The tensors of a 16-bit model in, those of the same model as a quantised checkpoint holds them out: names, types and
shapes as the formats' own tools write them. Knows no engine, and nothing of how AIM Engine divides them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aim_engine.catalog.checkpoint import Tensor

_BITS = {"F8_E4M3": 8, "I8": 8, "U8": 8, "BF16": 16, "F16": 16, "F32": 32, "I32": 32, "I64": 64}
_MXFP4_GROUP = 32  # elements that share a scale of one byte
_LEFT = ("lm_head.weight", "embed_tokens.weight", "norm.weight", "layernorm.weight", "mlp.gate.weight")
Written = Iterator[tuple[str, str, tuple[int, ...]]]


def stored(shapes: Mapping[str, Sequence[int]], said: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """The checkpoint's tensors; `said` is its quantization_config, None for one in 16 bits."""
    if not said:
        return {name: _tensor("BF16", tuple(shape)) for name, shape in shapes.items()}
    write = _writer(said)
    found: dict[str, Tensor] = {}
    for name, shape in _one_by_one(shapes) if said.get("quant_method") != "mxfp4" else shapes.items():
        for written, dtype, sizes in _written(name, tuple(shape), write):
            found[written] = _tensor(dtype, sizes)
    return found


def _tensor(dtype: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(dtype=dtype, shape=shape, bytes=math.prod(shape) * _BITS[dtype] // 8)


def _one_by_one(shapes: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Sequence[int]]]:
    """Experts that transformers stacks (gate and up in one) as checkpoints have them, each by itself."""
    for name, shape in shapes.items():
        head, _, last = name.rpartition(".")
        parts = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}.get(last, ())
        if len(shape) != 3 or not parts:
            yield name, shape
            continue
        for expert in range(shape[0]):
            for part in parts:
                yield f"{head}.{expert}.{part}.weight", (shape[1] // len(parts), shape[2])


def _written(name: str, shape: tuple[int, ...], write: Callable[[str, tuple[int, ...]], Written]) -> Written:
    stacked = len(shape) == 3 and ".experts." in name
    matrix = len(shape) == 2 and name.endswith(".weight") and ".layers." in name
    if name.endswith(_LEFT) or not (stacked or matrix):
        yield name, "BF16", shape
    else:
        yield from write(name, shape)


def _writer(said: Mapping[str, Any]) -> Callable[[str, tuple[int, ...]], Written]:
    method = said.get("quant_method")
    if method == "mxfp4":
        return _mxfp4
    if method in ("awq", "gptq"):
        kind = _awq if method == "awq" else _gptq
        return lambda name, shape: kind(name.removesuffix(".weight"), shape, said["bits"], said["group_size"])
    if method == "compressed-tensors":
        group = said["config_groups"]["group_0"]
        return lambda name, shape: _compressed(name, shape, group["weights"], group["input_activations"])
    return lambda name, shape: _fp8(name, shape, said)


def _mxfp4(name: str, shape: tuple[int, ...]) -> Written:
    """gpt-oss: the experts alone, half a byte an element and a scale for each 32 of the inner dimension, which comes
    last on disk and not in transformers' own model.
    """
    if len(shape) == 2:
        yield name, "BF16", shape
        return
    experts, inner, outer = shape
    groups = inner // _MXFP4_GROUP
    yield f"{name}_blocks", "U8", (experts, outer, groups, _MXFP4_GROUP // 2)
    yield f"{name}_scales", "U8", (experts, outer, groups)


def _awq(name: str, shape: tuple[int, ...], bits: int, group: int) -> Written:
    rows, columns = shape
    yield f"{name}.qweight", "I32", (columns, rows * bits // 32)
    yield f"{name}.qzeros", "I32", (columns // group, rows * bits // 32)
    yield f"{name}.scales", "F16", (columns // group, rows)


def _gptq(name: str, shape: tuple[int, ...], bits: int, group: int) -> Written:
    rows, columns = shape
    yield f"{name}.qweight", "I32", (columns * bits // 32, rows)
    yield f"{name}.qzeros", "I32", (columns // group, rows * bits // 32)
    yield f"{name}.scales", "F16", (columns // group, rows)
    yield f"{name}.g_idx", "I32", (columns,)


def _compressed(
    name: str, shape: tuple[int, ...], weights: Mapping[str, Any], inputs: Mapping[str, Any] | None
) -> Written:
    if weights["num_bits"] < 8:
        yield f"{name}_packed", "I32", (shape[0], shape[1] * weights["num_bits"] // 32)
        yield f"{name}_scale", "BF16", (shape[0], shape[1] // weights["group_size"])
        yield f"{name}_shape", "I64", (2,)
        return
    yield name, "I8" if weights["type"] == "int" else "F8_E4M3", shape
    yield f"{name}_scale", "BF16", (shape[0], 1) if weights["strategy"] == "channel" else (1,)
    if inputs and not inputs["dynamic"]:
        yield f"{name.removesuffix('weight')}input_scale", "BF16", (1,)


def _fp8(name: str, shape: tuple[int, ...], said: Mapping[str, Any]) -> Written:
    """DeepSeek's with blocks; else one scale for each tensor, and of inputs too but where these are `dynamic`."""
    yield name, "F8_E4M3", shape
    if block := said.get("weight_block_size"):
        yield f"{name}_scale_inv", "F32", tuple(-(-size // one) for size, one in zip(shape, block, strict=True))
        return
    yield f"{name}_scale", "F32", ()
    if said.get("activation_scheme") != "dynamic":
        yield f"{name.removesuffix('weight')}input_scale", "F32", ()
