"""A recipe for a model that has none: its card and a GPU product in, vLLM's options that follow from both out.

What follows from the model is in `_FAMILIES`, what follows from the GPU in `_platform_words`; nothing is tuned, and the
evidence says so. Reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import ArgumentValue, Recipe, Variant
from aim_engine.catalog.splitting import tensor_parallel_sizes
from aim_engine.hardware.products import Product
from aim_engine.values import slug

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
_SOURCE = "the model's config.json and what is known of the GPU; nobody has tuned or tried it"
_ENGINE = "vllm 0.32.0"  # whose parsers and switches are named here
_DATE = "2026-11-22"


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Models whose architecture, a space and id match `pattern`: the names of vLLM's parsers for their tool calls and
    their thinking (vllm/tool_parsers, vllm/reasoning), and variables besides.
    """

    pattern: str
    tools: str = ""
    reasoning: str = ""


# The first that matches counts. Sources: vLLM's documentation "Tool Calling" and "Reasoning Outputs", and the recipes
# that github.com/vllm-project/recipes publishes for these models.
_FAMILIES = (
    _Family(pattern=r" .*deepseek-r1-distill", reasoning="deepseek_r1"),
    _Family(pattern=r"GptOss", tools="openai", reasoning="openai_gptoss"),
    _Family(pattern=r"Qwen3\S* .*coder", tools="qwen3_coder"),
    _Family(pattern=r"Qwen3(Moe|Next)?For\S* .*instruct-2507|Qwen3Next\S* .*instruct", tools="hermes"),
    _Family(pattern=r"Qwen3(Moe|Next)?For", tools="hermes", reasoning="qwen3"),
    _Family(pattern=r"Qwen2\S* .*qwq", tools="hermes", reasoning="deepseek_r1"),
    _Family(pattern=r"Qwen2(Moe)?For\S* .*qwen", tools="hermes"),
    _Family(pattern=r"DeepseekV32|DeepseekV3\S* .*v3\.2", tools="deepseek_v32", reasoning="deepseek_v3"),
    _Family(pattern=r"DeepseekV3\S* .*v3\.1", tools="deepseek_v31", reasoning="deepseek_v3"),
    _Family(pattern=r"DeepseekV3\S* .*r1", tools="deepseek_v3", reasoning="deepseek_r1"),
    _Family(pattern=r"DeepseekV3\S* .*kimi-k2-thinking", tools="kimi_k2", reasoning="kimi_k2"),
    _Family(pattern=r"DeepseekV3\S* .*kimi-k2", tools="kimi_k2"),
    _Family(pattern=r"DeepseekV3\S* .*deepseek", tools="deepseek_v3"),
    _Family(pattern=r"Llama4", tools="llama4_pythonic"),
    _Family(pattern=r"Llama\S* .*llama-3", tools="llama3_json"),
    _Family(pattern=r"(Mistral|Mixtral|Mistral3)For\S* .*(mistral|mixtral|ministral|magistral)", tools="mistral"),
    _Family(pattern=r"Glm4Moe", tools="glm45", reasoning="glm45"),
    _Family(pattern=r"MiniMaxM2", tools="minimax_m2", reasoning="minimax_m2"),
    _Family(pattern=r"Granite\S* .*granite-3", tools="granite", reasoning="granite"),
    _Family(pattern=r"SeedOss", tools="seed_oss", reasoning="seed_oss"),
    _Family(pattern=r"HunYuanMoE\S* .*a13b", tools="hunyuan_a13b", reasoning="hunyuan_a13b"),
    _Family(pattern=r"Olmo3", tools="olmo3", reasoning="olmo3"),
    _Family(pattern=r"Jamba", tools="jamba"),
)


def derive(card: ModelCard, model_id: str, product: Product) -> Recipe | None:
    """The recipe, with a variant for every tensor-parallel size that divides the model; None where the card does not
    say enough of it.
    """
    shape, precision = card.architecture, card.precision
    if shape is None or precision is None:
        return None
    evidence = Evidence(level="derived", source=_SOURCE, engine=_ENGINE, date=_DATE)
    args, env = _words(card, shape, model_id, product)
    variants = [
        Variant(
            backend="vllm",
            gpu_count=size,
            enabled=True,
            metric=None,
            args={"tensor-parallel-size": size, **({"distributed-executor-backend": "mp"} if size > 1 else {}), **args},
            env=env,
            evidence=evidence,
        )
        for size in tensor_parallel_sizes(shape, precision)
    ]
    return Recipe(
        recipe_id=f"derived-{slug(product.name)}-{precision}",
        model_id=model_id,
        huggingface_id=card.checkpoint_in(precision) or model_id,
        precision=precision,
        gpu_type=product.name,
        variants=tuple(variants),
        evidence=evidence,
        description="Made from the model's own numbers: there is no recipe for it on this GPU.",
        generated=True,
    )


def _words(
    card: ModelCard, shape: Architecture, model_id: str, product: Product
) -> tuple[dict[str, ArgumentValue], dict[str, str]]:
    args: dict[str, ArgumentValue] = {"gpu-memory-utilization": 0.9, "disable-uvicorn-access-log": True}
    if card.precision in _DTYPES:
        args["dtype"] = _DTYPES[card.precision]
    args |= dict(_parsers(f"{card.family} {model_id}"))
    if shape.kv_lora_rank and product.aiter:
        args["block-size"] = 1  # AITER's kernels for latent attention have no other (vLLM, rocm_aiter_mla.py)
    return args, dict(_platform_words(product, card.family))


def _parsers(known_as: str) -> Iterator[tuple[str, str | bool]]:
    family = next((one for one in _FAMILIES if re.search(one.pattern, known_as, re.IGNORECASE)), None)
    if family and family.tools:
        yield "enable-auto-tool-choice", True
        yield "tool-call-parser", family.tools
    if family and family.reasoning:
        yield "reasoning-parser", family.reasoning


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
