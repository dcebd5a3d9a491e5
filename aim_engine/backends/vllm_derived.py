"""A recipe for a model that has none: its card and a GPU product in, vLLM's options that follow from both out.

What follows from the model is in `_FAMILIES`, what follows from the GPU in `_platform_words`; nothing is tuned, and the
evidence says so. Reads no file.
"""

from __future__ import annotations

from collections.abc import Iterator

from aim_engine.backends.derived_recipe import Family, derived_recipe, dtype_of, family_of
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import ArgumentValue, Recipe
from aim_engine.hardware.products import Product

_ENGINE = "vllm 0.32.0"  # whose parsers and switches are named here

# The first that matches counts. Sources: vLLM's documentation "Tool Calling" and "Reasoning Outputs", and the recipes
# that github.com/vllm-project/recipes publishes for these models.
_FAMILIES = (
    Family(pattern=r" .*deepseek-r1-distill", reasoning="deepseek_r1"),
    Family(pattern=r"GptOss", tools="openai", reasoning="openai_gptoss"),
    Family(pattern=r"Qwen3\S* .*coder", tools="qwen3_coder"),
    Family(pattern=r"Qwen3(Moe|Next)?For\S* .*instruct-2507|Qwen3Next\S* .*instruct", tools="hermes"),
    Family(pattern=r"Qwen3(Moe|Next)?For", tools="hermes", reasoning="qwen3"),
    Family(pattern=r"Qwen2\S* .*qwq", tools="hermes", reasoning="deepseek_r1"),
    Family(pattern=r"Qwen2(Moe)?For\S* .*qwen", tools="hermes"),
    Family(pattern=r"DeepseekV32|DeepseekV3\S* .*v3\.2", tools="deepseek_v32", reasoning="deepseek_v3"),
    Family(pattern=r"DeepseekV3\S* .*v3\.1", tools="deepseek_v31", reasoning="deepseek_v3"),
    Family(pattern=r"DeepseekV3\S* .*r1", tools="deepseek_v3", reasoning="deepseek_r1"),
    Family(pattern=r"DeepseekV3\S* .*kimi-k2-thinking", tools="kimi_k2", reasoning="kimi_k2"),
    Family(pattern=r"DeepseekV3\S* .*kimi-k2", tools="kimi_k2"),
    Family(pattern=r"DeepseekV3\S* .*deepseek", tools="deepseek_v3"),
    Family(pattern=r"Llama4", tools="llama4_pythonic"),
    Family(pattern=r"Llama\S* .*llama-3", tools="llama3_json"),
    Family(pattern=r"(Mistral|Mixtral|Mistral3)For\S* .*(mistral|mixtral|ministral|magistral)", tools="mistral"),
    Family(pattern=r"Glm4Moe", tools="glm45", reasoning="glm45"),
    Family(pattern=r"MiniMaxM2", tools="minimax_m2", reasoning="minimax_m2"),
    Family(pattern=r"Granite\S* .*granite-3", tools="granite", reasoning="granite"),
    Family(pattern=r"SeedOss", tools="seed_oss", reasoning="seed_oss"),
    Family(pattern=r"HunYuanMoE\S* .*a13b", tools="hunyuan_a13b", reasoning="hunyuan_a13b"),
    Family(pattern=r"Olmo3", tools="olmo3", reasoning="olmo3"),
    Family(pattern=r"Jamba", tools="jamba"),
)


def derive(card: ModelCard, model_id: str, product: Product) -> Recipe | None:
    """The recipe, with a variant for every tensor-parallel size that divides the model; None where the card does not
    say enough of it.
    """
    family = family_of(_FAMILIES, card, model_id)
    args = {"gpu-memory-utilization": 0.9, "disable-uvicorn-access-log": True, **dtype_of(card), **_parsers(family)}
    env = dict(_platform_words(product, card.family))

    def words(shape: Architecture, size: int) -> tuple[dict[str, ArgumentValue], dict[str, str]]:
        spread: dict[str, ArgumentValue] = {"distributed-executor-backend": "mp"} if size > 1 else {}
        return {"tensor-parallel-size": size, **spread, **args, **_latent_words(shape, product)}, env

    return derived_recipe(card, model_id, product, backend="vllm", engine=_ENGINE, words=words)


def _parsers(family: Family) -> dict[str, ArgumentValue]:
    return {
        **({"enable-auto-tool-choice": True, "tool-call-parser": family.tools} if family.tools else {}),
        **({"reasoning-parser": family.reasoning} if family.reasoning else {}),
    }


def _latent_words(shape: Architecture, product: Product) -> dict[str, ArgumentValue]:
    """AITER's kernels for latent attention have blocks of one token only (vLLM, rocm_aiter_mla.py)."""
    return {"block-size": 1} if shape.kv_lora_rank and product.aiter else {}


def _platform_words(product: Product, family: str) -> Iterator[tuple[str, str]]:
    """The switches that AMD's own profiles have for these GPUs (github.com/amd-enterprise-ai/aim-build, "general" and
    gpt-oss ones; rocm.docs.amd.com, "vLLM V1 performance optimization").
    """
    if product.aiter:
        yield "VLLM_ROCM_USE_AITER", "1"
        yield "HSA_NO_SCRATCH_RECLAIM", "1"
        if "GptOss" in family:
            yield "VLLM_ROCM_USE_AITER_MHA", "0"
            yield "VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION", "1"
    elif product.gfx.startswith(("gfx11", "gfx12")):
        yield "FLASH_ATTENTION_TRITON_AMD_ENABLE", "TRUE"
        yield "TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL", "1"
