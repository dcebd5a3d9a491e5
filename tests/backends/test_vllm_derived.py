"""Recipes made of a model's numbers: sizes that divide it, the words of its family and its GPU, and none that a GPU
cannot run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.backends.vllm import derive, review
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.splitting import tensor_parallel_sizes
from aim_engine.hardware.products import all_products, product_by_name
from tests.building import examples

SHAPE = Architecture(layers=64, hidden_size=5120, attention_heads=64, kv_heads=8, head_dim=128, vocab_size=151936,
                     intermediate_size=25600, max_context=40960)  # fmt: skip
CARD = ModelCard(model_id="org/model", family="Qwen3ForCausalLM", precision="bf16", architecture=SHAPE,
                 weights_bytes={"bf16": 65_524_246_528})  # fmt: skip


def args_of(family: str, model_id: str, gpu: str = "MI300X", **changes: Any) -> dict[str, Any]:
    made = derive(replace(CARD, family=family, **changes), model_id, product_by_name(gpu))
    assert made is not None
    return dict(made.variants[0].args)


def test_a_variant_for_every_size_that_divides_it() -> None:
    made = derive(CARD, "org/model", product_by_name("MI300X"))
    assert made is not None
    assert (made.recipe_id, made.gpu_type, made.precision, made.generated) == (
        "derived-mi300x-bf16",
        "MI300X",
        "bf16",
        True,
    )
    assert [one.gpu_count for one in made.variants] == [1, 2, 4, 8]
    assert [one.args["tensor-parallel-size"] for one in made.variants] == [1, 2, 4, 8]
    assert {one.evidence.level for one in made.variants} == {"derived"}
    assert "max-model-len" not in made.variants[0].args  # the ledger's longest


@pytest.mark.parametrize(
    ("changes", "precision", "sizes"),
    [
        ({}, "bf16", (1, 2, 4, 8)),
        ({"attention_heads": 36, "kv_heads": 36, "intermediate_size": 8000}, "bf16", (1, 2, 4)),
        ({"kv_heads": 2}, "bf16", (1, 2, 4, 8)),  # repeated
        ({"kv_heads": 3, "attention_heads": 24}, "bf16", (1,)),
        ({"intermediate_size": 1536}, "fp8", (1, 2, 4)),  # 192 is not whole blocks of 128
        ({"intermediate_size": 1000}, "fp8", (1,)),
        ({"kv_heads": 3, "kv_lora_rank": 512}, "bf16", (1, 2, 4, 8)),  # a latent vector has no heads
    ],
)
def test_sizes(changes: dict[str, Any], precision: str, sizes: tuple[int, ...]) -> None:
    assert tensor_parallel_sizes(replace(SHAPE, **changes), precision) == sizes


@examples(200)
@given(heads=st.integers(1, 128), kv_heads=st.integers(1, 128), width=st.integers(1, 65536))
def test_one_gpu_is_always_a_size_and_every_size_divides_the_heads(heads: int, kv_heads: int, width: int) -> None:
    sizes = tensor_parallel_sizes(
        replace(SHAPE, attention_heads=heads, kv_heads=kv_heads, intermediate_size=width), "bf16"
    )
    assert sizes[0] == 1
    assert all(heads % size == 0 and (kv_heads % size == 0 or size % kv_heads == 0) for size in sizes)


@pytest.mark.parametrize(
    ("family", "model_id", "tools", "reasoning"),
    [
        ("Qwen3ForCausalLM", "Qwen/Qwen3-8B", "hermes", "qwen3"),
        ("Qwen3MoeForCausalLM", "Qwen/Qwen3-30B-A3B-Instruct-2507", "hermes", None),
        ("Qwen3MoeForCausalLM", "Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_coder", None),
        ("Qwen2ForCausalLM", "Qwen/QwQ-32B", "hermes", "deepseek_r1"),
        ("Qwen2ForCausalLM", "Qwen/Qwen2.5-7B-Instruct", "hermes", None),
        ("Qwen2ForCausalLM", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", None, "deepseek_r1"),
        ("LlamaForCausalLM", "meta-llama/Llama-3.3-70B-Instruct", "llama3_json", None),
        ("LlamaForCausalLM", "org/another", None, None),
        ("Llama4ForConditionalGeneration", "meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama4_pythonic", None),
        ("DeepseekV3ForCausalLM", "deepseek-ai/DeepSeek-R1", "deepseek_v3", "deepseek_r1"),
        ("DeepseekV3ForCausalLM", "deepseek-ai/DeepSeek-V3.1", "deepseek_v31", "deepseek_v3"),
        ("DeepseekV32ForCausalLM", "deepseek-ai/DeepSeek-V3.2", "deepseek_v32", "deepseek_v3"),
        ("GptOssForCausalLM", "openai/gpt-oss-120b", "openai", "openai_gptoss"),
        ("Glm4MoeForCausalLM", "zai-org/GLM-4.6", "glm45", "glm45"),
        ("DeepseekV3ForCausalLM", "moonshotai/Kimi-K2-Instruct", "kimi_k2", None),
        ("MiniMaxM2ForCausalLM", "MiniMaxAI/MiniMax-M2", "minimax_m2", "minimax_m2"),
        ("MixtralForCausalLM", "mistralai/Mixtral-8x7B-Instruct-v0.1", "mistral", None),
        ("", "", None, None),
    ],
)
def test_the_parsers_of_a_family(family: str, model_id: str, tools: str | None, reasoning: str | None) -> None:
    args = args_of(family, model_id)
    assert (args.get("tool-call-parser"), args.get("reasoning-parser")) == (tools, reasoning)
    assert args.get("enable-auto-tool-choice", False) is (tools is not None)


def test_what_the_gpu_decides() -> None:
    latent = replace(SHAPE, kv_lora_rank=512, qk_rope_head_dim=64)
    assert args_of("DeepseekV3ForCausalLM", "org/x", architecture=latent)["block-size"] == 1
    assert "block-size" not in args_of("DeepseekV3ForCausalLM", "org/x", "MI210", architecture=latent)
    for gpu, variables in {
        "MI300X": {"VLLM_ROCM_USE_AITER": "1", "HSA_NO_SCRATCH_RECLAIM": "1"},
        "MI210": {},
        "W7900": {"FLASH_ATTENTION_TRITON_AMD_ENABLE": "TRUE", "TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL": "1"},
    }.items():
        made = derive(CARD, "org/model", product_by_name(gpu))
        assert made is not None
        assert made.variants[0].env == variables


@pytest.mark.parametrize("product", all_products(), ids=lambda one: one.name)
@pytest.mark.parametrize("family", ["GptOssForCausalLM", "DeepseekV3ForCausalLM", "Qwen3ForCausalLM"])
def test_nothing_that_vllm_or_the_gpu_does_not_have_is_in_one(product: Any, family: str) -> None:
    made = derive(replace(CARD, family=family), "org/model", product)
    assert made is not None
    assert [complaint for one in made.variants for complaint in review(made, one)] == []


@pytest.mark.parametrize("unknown", [{"architecture": None}, {"precision": None}])
def test_too_little_is_known(unknown: dict[str, None]) -> None:
    assert derive(replace(CARD, **unknown), "org/model", product_by_name("MI300X")) is None  # type: ignore[arg-type]
