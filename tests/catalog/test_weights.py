"""How tensors are divided, by their names; tests/engine holds the sums against the engine's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.catalog.checkpoint import Tensor
from aim_engine.catalog.layer_cache import StateCache, StatePart
from aim_engine.catalog.weights import (
    DIVIDED,
    EMBEDDING,
    EXPERTS,
    HEAD,
    KV_HEADS,
    OF_EXPERTS,
    STATE_GROUPS,
    UNKNOWN,
    VOCABULARY,
    WHOLE,
    WeightPart,
    module_of,
    weight_parts,
)
from tests.building import QWEN

LAYER = "model.layers.3."


def tensor(*shape: int, dtype: str = "BF16", width: int = 2) -> Tensor:
    size = width
    for one in shape:
        size *= one
    return Tensor(dtype=dtype, shape=shape, bytes=size)


def parts(name: str, what: Tensor, *, family: str = "qwen3", tied: bool = False) -> list[tuple[str, int, int]]:
    found = weight_parts({name: what}, QWEN, family=family, tied=tied)
    return [(part.share, part.layer, part.bytes) for part in found]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("model.layers.0.self_attn.q_proj.weight", "q_proj"),
        ("model.layers.0.self_attn.q_proj.weight_scale_inv", "q_proj"),
        ("model.layers.0.mlp.experts.7.down_proj.qweight", "down_proj"),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", "gate_up_proj"),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", "gate_up_proj"),
        ("model.layers.0.mlp.gate.e_score_correction_bias", "e_score_correction_bias"),
        ("model.layers.0.mixer.dt_bias", "dt_bias"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_a_tensor_s_module(name: str, module: str) -> None:
    assert module_of(name) == module


@pytest.mark.parametrize(
    ("name", "shape", "share"),
    [
        ("self_attn.q_proj.weight", (8192, 5120), DIVIDED),
        ("self_attn.k_proj.weight", (1024, 5120), KV_HEADS),
        ("self_attn.v_proj.bias", (1024,), KV_HEADS),
        ("self_attn.o_proj.weight", (5120, 8192), DIVIDED),
        ("self_attn.o_proj.bias", (5120,), WHOLE),
        ("self_attn.kv_a_proj_with_mqa.weight", (576, 7168), WHOLE),
        ("self_attn.kv_b_proj.weight", (32768, 512), DIVIDED),
        ("mlp.experts.9.down_proj.weight", (5120, 1536), EXPERTS),
        ("mlp.experts.9.down_proj.weight_scale", (5120, 1), OF_EXPERTS),
        ("mlp.experts.gate_up_proj_bias", (32, 5760), EXPERTS),
        ("mlp.shared_experts.down_proj.weight", (5120, 1536), DIVIDED),
        ("block_sparse_moe.input_linear.weight", (32, 1024, 5120), EXPERTS),
        ("mlp.gate.weight", (128, 5120), WHOLE),
        ("input_layernorm.weight", (5120,), WHOLE),
        ("self_attn.q_norm.weight", (128,), WHOLE),
        ("mlp.down_proj.weight_scale", (5120, 1), WHOLE),  # one for each output
        ("mlp.down_proj.weight_scale_inv", (40, 200), DIVIDED),  # one for each block
        ("mlp.something_new.weight", (5120, 5120), UNKNOWN),
        ("self_attn.linear_q_adapter_list.0.1.weight", (5120, 128), DIVIDED),  # Zamba 2's
    ],
)
def test_what_is_divided(name: str, shape: tuple[int, ...], share: str) -> None:
    assert [(found, layer) for found, layer, _ in parts(LAYER + name, tensor(*shape))] == [(share, 3)]


def test_one_tensor_of_queries_keys_and_values_is_divided_as_its_parts_are() -> None:
    rows = (64 + 8 + 8) * 128
    assert parts(f"{LAYER}self_attn.qkv_proj.weight", tensor(rows, 10)) == [
        (DIVIDED, 3, 64 * 128 * 10 * 2),
        (KV_HEADS, 3, 16 * 128 * 10 * 2),
    ]


def test_a_family_that_transformers_cannot_divide_has_its_mlp_on_every_gpu() -> None:
    matrix = tensor(128, 10)
    assert parts("transformer.h.3.mlp.c_fc.weight", matrix, family="gpt_bigcode") == [(WHOLE, 3, matrix.bytes)]
    assert parts("transformer.h.3.mlp.c_fc.weight", matrix, family="gpt2") == [(DIVIDED, 3, matrix.bytes)]
    attention = parts("transformer.h.3.attn.c_proj.weight", matrix, family="gpt_bigcode")
    assert attention == [(DIVIDED, 3, matrix.bytes)]


def test_what_the_heads_of_a_state_share_is_apart() -> None:
    state = StateCache(parts=(StatePart(rows=256, columns=3, groups=1, group_rows=32),))
    shape = replace(QWEN, caches=((state,),) * 64)
    found = weight_parts({f"{LAYER}mixer.in_proj.weight": tensor(552, 10)}, shape, family="mamba2", tied=False)
    assert {part.share: part.bytes for part in found} == {DIVIDED: 520 * 20, STATE_GROUPS: 32 * 20}


def test_the_tables_and_what_is_tied() -> None:
    table = tensor(1000, 64)
    held = WeightPart(share=VOCABULARY, layer=EMBEDDING, bytes=128_000, rows=1000)
    both = {"model.embed_tokens.weight": table, "lm_head.weight": table}
    assert weight_parts(both, QWEN, family="qwen3", tied=True) == (held,)
    assert weight_parts(both, QWEN, family="qwen3", tied=False) == (held, replace(held, layer=HEAD))


def test_what_the_engine_does_not_load() -> None:
    """Layers beyond the model's own, which predict several tokens at once (DeepSeek V3 has one)."""
    assert parts("model.layers.64.mlp.gate_proj.weight", tensor(8, 8)) == []
    assert parts("mtp.layers.0.mlp.gate_proj.weight", tensor(8, 8)) == []
    assert parts(f"{LAYER}self_attn.rotary_emb.inv_freq", tensor(64, dtype="F32", width=4)) == []


def test_precisions() -> None:
    q_proj = f"{LAYER}self_attn.q_proj."
    assert parts(f"{q_proj}weight", tensor(8, 8, dtype="F32", width=4)) == [(DIVIDED, 3, 128)]  # is served in 16 bits
    assert parts(f"{q_proj}weight", tensor(8, 8, dtype="F8_E4M3", width=1)) == [(DIVIDED, 3, 64)]
    assert parts(f"{LAYER}mlp.gate.e_score_correction_bias", tensor(8)) == [(WHOLE, 3, 32)]
    assert parts(f"{LAYER}mlp.gate.weight", tensor(8, 8), family="glm4_moe") == [(WHOLE, 3, 256)]


@pytest.mark.parametrize("stored", ["F32", "BF16"])
@pytest.mark.parametrize("last", ["weight_scale_inv", "weight_scale"])
def test_scales_of_eight_bits_are_kept_in_32(stored: str, last: str) -> None:
    scale = {f"{LAYER}self_attn.q_proj.{last}": tensor(2, 2, dtype=stored, width=4 if stored == "F32" else 2)}
    beside = {f"{LAYER}self_attn.q_proj.weight": tensor(8, 8, dtype="F8_E4M3", width=1)}
    packed = {f"{LAYER}self_attn.q_proj.weight_packed": tensor(8, 1, dtype="I32", width=4)}
    sums = [sum(part.bytes for part in weight_parts(scale | other, QWEN, family="qwen3", tied=False))
            for other in (beside, packed)]  # fmt: skip
    assert sums == [64 + 16, 32 + 8]


def test_the_order_of_a_checkpoints_columns_is_not_kept() -> None:
    assert parts(f"{LAYER}mlp.down_proj.g_idx", tensor(25600, dtype="I32", width=4)) == []
    assert parts(f"{LAYER}mlp.down_proj.qzeros", tensor(8, 16, dtype="I32", width=4)) == [(DIVIDED, 3, 512)]


def test_a_vision_tower_is_on_the_first_stage() -> None:
    assert parts("visual.blocks.70.mlp.fc1.weight", tensor(8, 8)) == [(DIVIDED, EMBEDDING, 128)]
