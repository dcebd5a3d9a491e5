"""How a checkpoint's tensors are divided among GPUs: their names, types and shapes in, bytes by part and layer out.

What is sharded and what every GPU keeps whole follows from the names that models give their modules, as the linear
layers of vLLM 0.32 treat them (vllm/model_executor/layers/linear.py and the models). Knows no GPU and no precision.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.checkpoint import Tensor
from aim_engine.catalog.layer_cache import StateCache, StatePart

WHOLE, DIVIDED, KV_HEADS, STATE_GROUPS = "whole", "divided", "kv heads", "state groups"
VOCABULARY, UNKNOWN = "vocabulary", "unknown"
EXPERTS, OF_EXPERTS = "experts", "of experts"  # divided in or among experts; what each has whole
EMBEDDING, HEAD = -1, -2  # the layers before the first and after the last

_COLUMN = frozenset(
    [
        "q_proj",
        "gate_proj",
        "up_proj",
        "gate_up_proj",
        "w1",
        "w3",
        "v1",
        "fc1",
        "fc_in",
        "c_fc",
        "dense_h_to_4h",
        "linear_fc1",
        "q_b_proj",
        "kv_b_proj",
        "in_proj",
        "q_norm",
        "in_proj_qkvz",
        "in_proj_ba",
        "in_proj_qkv",
        "in_proj_z",
        "in_proj_a",
        "in_proj_b",
        "conv1d",
        "conv",
        "dt_proj",
        "A_log",
        "D",
        "dt_bias",
        "sinks",
        "input_linear",
        "mlp1",
        "linear_in",
    ]
)
_ROW = frozenset(
    [
        "o_proj",
        "down_proj",
        "w2",
        "fc2",
        "fc_out",
        "c_proj",
        "dense_4h_to_h",
        "linear_fc2",
        "out_proj",
        "x_proj",
        "output_linear",
        "dense",
        "proj",
        "wo",
        "linear_out",
    ]
)
_ONLY_KV = frozenset({"k_proj", "v_proj", "k_norm"})  # norms of more than one dimension are one for each head
_FUSED = frozenset({"qkv_proj", "query_key_value", "Wqkv", "c_attn"})
_TABLES = frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "embeddings", "tok_embeddings"})
_HEADS = frozenset({"lm_head", "embed_out", "output"})
_KEPT_WHOLE = frozenset(
    [
        "gate",
        "router",
        "shared_expert_gate",
        "q_a_proj",
        "kv_a_proj_with_mqa",
        "q_a_layernorm",
        "kv_a_layernorm",
        "wq_b",
        "wk",
        "weights_proj",
        "layer",
        "wpe",
        "embed_positions",
        "e_score_correction_bias",
        "bias",
        "b_layernorm",
        "c_layernorm",
        "dt_layernorm",
    ]
)
_FLOAT32 = frozenset({"e_score_correction_bias", "A_log"})  # created so by the models, whatever the model's type
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_EIGHT_BITS = frozenset({"F8_E4M3", "F8_E5M2", "I8"})
_NOT_LOADED = frozenset({"inv_freq", "g_idx"})  # vLLM reckons the one anew, and takes GPTQ in the columns' order only
# Run by transformers' code, which has no plan for dividing them: vLLM divides tables and attention itself, and every
# GPU holds the rest (vllm/model_executor/models/transformers/base.py, recursive_replace).
_WHOLE_MLP = frozenset({"gpt_bigcode"})
_ADAPTERS = re.compile(r"_adapter_list\.")  # Zamba 2's, whose modules have numbers for names (zamba2.py, Zamba2LoRA)
_FLOAT32_ROUTERS = frozenset({"glm4_moe", "ernie4_5_moe", "minimax_m2"})  # their files in vllm/model_executor/models/
_GROUPED = frozenset({"in_proj", "conv1d"})  # of Mamba 2: what each group of heads shares is part of their rows
_EXPERT = re.compile(r"\.experts\.|\.block_sparse_moe\.(input|output)_linear\.")  # the latter are Granite's
_OWN_NAMES = frozenset({"e_score_correction_bias", "A_log", "D", "dt_bias", "sinks", "inv_freq"})
_SUFFIX = re.compile(r"weight|bias|q?weight_?\w*|qzeros|g_idx|scales?|\w+_scale(_inv)?")
_FUSED_SUFFIX = re.compile(r"_(bias|blocks|scales?|scale_inv|weight|weight_scale)$")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d{1,9})\.")
_TOWERS = re.compile(r"(?:^|\.)(visual|vision_\w+|audio_\w+|multi_modal_projector|embed_vision|embed_audio|mm_\w+)\.")


@dataclass(frozen=True, kw_only=True)
class WeightPart:
    """Bytes of a layer that are divided alike: `share` is one of the words above. In a `vocabulary` each row of the
    table is so many bytes, and the engine pads their number.
    """

    share: str
    layer: int
    bytes: int
    rows: int = 0


def weight_parts(
    tensors: Mapping[str, Tensor], shape: Architecture, *, family: str, tied: bool
) -> tuple[WeightPart, ...]:
    """The tensors that an engine loads, summed up. Those of layers beyond the model's own predict several tokens at
    once and are loaded by who asks for that; a head that is the embedding's own table is not counted twice.
    """
    sums: Counter[tuple[str, int]] = Counter()
    tables = []
    for name, tensor in tensors.items():
        module, layer = module_of(name), _layer_of(name, shape.layers)
        if layer is None or (tied and module in _HEADS) or name.rpartition(".")[2] in _NOT_LOADED:
            continue
        wide = module in _FLOAT32 or (module == "gate" and family in _FLOAT32_ROUTERS)
        held = _held_bytes(tensor, 4 if wide or _scales_eight_bits(name, tensors) else 2)
        if (module in _TABLES or module in _HEADS) and len(tensor.shape) == 2 and not _TOWERS.search(name):
            where = HEAD if module in _HEADS else EMBEDDING
            tables.append(WeightPart(share=VOCABULARY, layer=where, bytes=held, rows=tensor.shape[0]))
            continue
        is_whole = family in _WHOLE_MLP and ".mlp." in name
        shares = [(WHOLE, 1, 1)] if is_whole else _shares(name, module, tensor, shape)
        for share, part, of in shares:
            sums[share, layer] += held * part // of
    parts = tuple(WeightPart(share=share, layer=layer, bytes=size) for (share, layer), size in sums.items())
    return (*tables, *parts)


def layers_in(names: Iterable[str]) -> int:
    """How many layers the text tower has by its tensors' names; 0 where none of them has a number."""
    found = (_LAYER.search(name) for name in names if not _TOWERS.search(name) and "mtp." not in name)
    return max((int(layer[1]) + 1 for layer in found if layer), default=0)


def module_of(name: str) -> str:
    """The name of the module that a tensor belongs to: "q_proj" of "model.layers.0.self_attn.q_proj.weight_scale"."""
    head, _, last = name.rpartition(".")
    if last in _OWN_NAMES:
        return last
    if _SUFFIX.fullmatch(last):
        return head.rpartition(".")[2]
    return _FUSED_SUFFIX.sub("", last)


def _held_bytes(tensor: Tensor, element_bytes: int) -> int:
    """What the engine holds of it: numbers in the bytes that it keeps them in, quantised ones as they are stored."""
    return math.prod(tensor.shape) * element_bytes if tensor.dtype in _FLOATS else tensor.bytes


def _scales_eight_bits(name: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether it is a scale of a weight in 8 bits: the engine keeps these in 32 however they are stored, and those of
    packed weights in 16 (vllm/model_executor/layers/quantization, create_weights).
    """
    head, _, last = name.rpartition(".")
    weight = tensors.get(f"{head}.weight")
    return "scale" in last and weight is not None and weight.dtype in _EIGHT_BITS


def _layer_of(name: str, layers: int) -> int | None:
    if name.startswith("mtp.") or ".mtp." in name:
        return None
    if _TOWERS.search(name):
        return EMBEDDING
    found = _LAYER.search(name)
    if found is None:
        return HEAD
    return int(found[1]) if int(found[1]) < layers else None


def _shares(name: str, module: str, tensor: Tensor, shape: Architecture) -> list[tuple[str, int, int]]:
    """How it is divided: a share, and which part of it (so many of so many)."""
    if module in _FUSED and 0 < shape.kv_heads < shape.attention_heads:
        both = shape.attention_heads + 2 * shape.kv_heads
        return [(DIVIDED, shape.attention_heads, both), (KV_HEADS, 2 * shape.kv_heads, both)]
    if module in _GROUPED and (rows := _group_rows(shape)) and tensor.shape:
        return [(DIVIDED, tensor.shape[0] - rows, tensor.shape[0]), (STATE_GROUPS, rows, tensor.shape[0])]
    share = _share(name, module, [size for size in tensor.shape if size > 1])
    if _EXPERT.search(name):
        share = {DIVIDED: EXPERTS, WHOLE: OF_EXPERTS}.get(share, share)
    return [(share, 1, 1)]


def _share(name: str, module: str, wide: list[int]) -> str:
    of_states = name.endswith((".mixer.norm.weight", ".mamba.norm.weight"))
    if not of_states and (not wide or module in _KEPT_WHOLE or ("norm" in module and len(wide) < 2)):
        return WHOLE
    if module in _ONLY_KV:
        return KV_HEADS
    if of_states or module in _COLUMN or module in _FUSED or _ADAPTERS.search(name):
        return DIVIDED
    if module in _ROW:  # what is added once, and a scale for each output, is on every GPU
        return DIVIDED if len(wide) > 1 and not name.endswith("bias") else WHOLE
    return UNKNOWN if len(wide) > 1 else WHOLE


def state_groups(shape: Architecture) -> int:
    """How many groups the heads of a Mamba-2 state share; 0 where there are none."""
    return next((part.groups for part in _state_parts(shape) if part.groups), 0)


def _group_rows(shape: Architecture) -> int:
    return next((part.groups * part.group_rows for part in _state_parts(shape) if part.groups), 0)


def _state_parts(shape: Architecture) -> tuple[StatePart, ...]:
    states = (cache for caches in shape.caches for cache in caches if isinstance(cache, StateCache))
    return next((state.parts for state in states), ())
