"""A recipe for a model that has none: its card and a GPU product in, sglang's options that follow from both out.

Nothing is tuned, and the evidence says so. Reads no file.
"""

from __future__ import annotations

from collections.abc import Iterator

from aim_engine.backends.derived_recipe import Family, derived_recipe, dtype_of, family_of
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import ArgumentValue, Recipe
from aim_engine.hardware.products import Product

_ENGINE = "sglang 0.5.23"  # whose parsers and switches are named here

# The first that matches counts. Sources: sglang's documentation "Tool Parser" and "Reasoning Parser", and the lists in
# its function_call/parser_names.py and parser/reasoning_parser_names.py. Only names that 0.5.5 has too.
_FAMILIES = (
    Family(pattern=r" .*deepseek-r1-distill", reasoning="deepseek-r1"),
    Family(pattern=r"GptOss", tools="gpt-oss", reasoning="gpt-oss"),
    Family(pattern=r"Qwen3\S* .*coder", tools="qwen3_coder"),
    Family(pattern=r"Qwen3(Moe|Next)?For\S* .*instruct-2507|Qwen3Next\S* .*instruct", tools="qwen25"),
    Family(pattern=r"Qwen3(Moe|Next)?For\S* .*thinking", tools="qwen25", reasoning="qwen3-thinking"),
    Family(pattern=r"Qwen3(Moe|Next)?For", tools="qwen25", reasoning="qwen3"),
    Family(pattern=r"Qwen2(Moe)?For\S* .*qwen", tools="qwen25"),
    Family(pattern=r"DeepseekV3\S* .*v3\.1", tools="deepseekv31", reasoning="deepseek-v3"),
    Family(pattern=r"DeepseekV3\S* .*r1", tools="deepseekv3", reasoning="deepseek-r1"),
    Family(pattern=r"DeepseekV3\S* .*kimi-k2", tools="kimi_k2"),
    Family(pattern=r"DeepseekV3\S* .*deepseek", tools="deepseekv3"),
    Family(pattern=r"Llama4", tools="pythonic"),
    Family(pattern=r"Llama\S* .*llama-3", tools="llama3"),
    Family(pattern=r"(Mistral|Mixtral|Mistral3)For\S* .*(mistral|mixtral|ministral|magistral)", tools="mistral"),
    Family(pattern=r"Glm4Moe", tools="glm45", reasoning="glm45"),
)


def derive(card: ModelCard, model_id: str, product: Product) -> Recipe | None:
    """The recipe, with a variant for every tensor-parallel size that divides the model; None where the card does not
    say enough of it.
    """
    args = {**dtype_of(card), **dict(_parsers(family_of(_FAMILIES, card, model_id)))}
    env = dict(_platform_words(product))

    def words(_: Architecture, size: int) -> tuple[dict[str, ArgumentValue], dict[str, str]]:
        return {"tp-size": size, **args}, env

    return derived_recipe(card, model_id, product, backend="sglang", engine=_ENGINE, words=words)


def _parsers(family: Family) -> Iterator[tuple[str, str]]:
    if family.tools:
        yield "tool-call-parser", family.tools
    if family.reasoning:
        yield "reasoning-parser", family.reasoning


def _platform_words(product: Product) -> Iterator[tuple[str, str]]:
    """sglang's images for ROCm set these two for all GPUs, and AMD's page on sglang has them unset on Radeon."""
    yield "SGLANG_USE_AITER", "1" if product.aiter else "0"
    if not product.aiter:
        yield "SGLANG_ROCM_FUSED_DECODE_MLA", "0"
