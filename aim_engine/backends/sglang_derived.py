"""A recipe for a model that has none: its card and a GPU product in, sglang's options that follow from both out.

Nothing is tuned, and the evidence says so. Reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import ArgumentValue, Recipe, Variant
from aim_engine.catalog.splitting import tensor_parallel_sizes
from aim_engine.hardware.products import Product
from aim_engine.values import slug

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
_SOURCE = "the model's config.json and what is known of the GPU; nobody has tuned or tried it"
_ENGINE = "sglang 0.5.23"  # whose parsers and switches are named here
_DATE = "2026-11-22"


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Models whose architecture, a space and id match `pattern`: the names of sglang's parsers for their tool calls and
    their thinking.
    """

    pattern: str
    tools: str = ""
    reasoning: str = ""


# The first that matches counts. Sources: sglang's documentation "Tool Parser" and "Reasoning Parser", and the lists in
# its function_call/parser_names.py and parser/reasoning_parser_names.py. Only names that 0.5.5 has too.
_FAMILIES = (
    _Family(pattern=r" .*deepseek-r1-distill", reasoning="deepseek-r1"),
    _Family(pattern=r"GptOss", tools="gpt-oss", reasoning="gpt-oss"),
    _Family(pattern=r"Qwen3\S* .*coder", tools="qwen3_coder"),
    _Family(pattern=r"Qwen3(Moe|Next)?For\S* .*instruct-2507|Qwen3Next\S* .*instruct", tools="qwen25"),
    _Family(pattern=r"Qwen3(Moe|Next)?For\S* .*thinking", tools="qwen25", reasoning="qwen3-thinking"),
    _Family(pattern=r"Qwen3(Moe|Next)?For", tools="qwen25", reasoning="qwen3"),
    _Family(pattern=r"Qwen2(Moe)?For\S* .*qwen", tools="qwen25"),
    _Family(pattern=r"DeepseekV3\S* .*v3\.1", tools="deepseekv31", reasoning="deepseek-v3"),
    _Family(pattern=r"DeepseekV3\S* .*r1", tools="deepseekv3", reasoning="deepseek-r1"),
    _Family(pattern=r"DeepseekV3\S* .*kimi-k2", tools="kimi_k2"),
    _Family(pattern=r"DeepseekV3\S* .*deepseek", tools="deepseekv3"),
    _Family(pattern=r"Llama4", tools="pythonic"),
    _Family(pattern=r"Llama\S* .*llama-3", tools="llama3"),
    _Family(pattern=r"(Mistral|Mixtral|Mistral3)For\S* .*(mistral|mixtral|ministral|magistral)", tools="mistral"),
    _Family(pattern=r"Glm4Moe", tools="glm45", reasoning="glm45"),
)


def derive(card: ModelCard, model_id: str, product: Product) -> Recipe | None:
    """The recipe, with a variant for every tensor-parallel size that divides the model; None where the card does not
    say enough of it.
    """
    shape, precision = card.architecture, card.precision
    if shape is None or precision is None:
        return None
    evidence = Evidence(level="derived", source=_SOURCE, engine=_ENGINE, date=_DATE)
    args: dict[str, ArgumentValue] = {"dtype": _DTYPES[precision]} if precision in _DTYPES else {}
    args |= dict(_parsers(f"{card.family} {model_id}"))
    variants = [
        Variant(
            backend="sglang",
            gpu_count=size,
            enabled=True,
            metric=None,
            args={"tp-size": size, **args},
            env=dict(_platform_words(product)),
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


def _parsers(known_as: str) -> Iterator[tuple[str, str]]:
    family = next((one for one in _FAMILIES if re.search(one.pattern, known_as, re.IGNORECASE)), None)
    if family and family.tools:
        yield "tool-call-parser", family.tools
    if family and family.reasoning:
        yield "reasoning-parser", family.reasoning


def _platform_words(product: Product) -> Iterator[tuple[str, str]]:
    """sglang's images for ROCm set these two for all GPUs, and AMD's page on sglang has them unset on Radeon."""
    yield "SGLANG_USE_AITER", "1" if product.aiter else "0"
    if not product.aiter:
        yield "SGLANG_ROCM_FUSED_DECODE_MLA", "0"
