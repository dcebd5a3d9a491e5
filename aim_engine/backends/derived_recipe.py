"""What every engine's recipe for a model without one has in common: who made it, and a variant for each way to divide
the model. Reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
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
_DATE = "2026-11-22"

# Options and variables for a model of that architecture over so many GPUs.
Words = Callable[[Architecture, int], tuple[Mapping[str, ArgumentValue], Mapping[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models whose architecture, a space and id match `pattern`: an engine's names of the parsers for their tool calls
    and their thinking.
    """

    pattern: str
    tools: str = ""
    reasoning: str = ""


def family_of(families: Sequence[Family], card: ModelCard, model_id: str) -> Family:
    """The first that matches; one without parsers where none does."""
    known_as = f"{card.family} {model_id}"
    return next((one for one in families if re.search(one.pattern, known_as, re.IGNORECASE)), Family(pattern=""))


def dtype_of(card: ModelCard) -> dict[str, ArgumentValue]:
    """The option that both engines call `dtype`, where the checkpoint's precision is one."""
    return {"dtype": _DTYPES[card.precision]} if card.precision in _DTYPES else {}


def derived_recipe(
    card: ModelCard, model_id: str, product: Product, *, backend: str, engine: str, words: Words
) -> Recipe | None:
    """The recipe, with a variant for every tensor-parallel size that divides the model; None where the card does not
    say enough of it. `engine` is the version whose options `words` gives.
    """
    shape, precision = card.architecture, card.precision
    if shape is None or precision is None:
        return None
    evidence = Evidence(level="derived", source=_SOURCE, engine=engine, date=_DATE)

    def variant(size: int) -> Variant:
        args, env = words(shape, size)
        return Variant(
            backend=backend, gpu_count=size, enabled=True, metric=None, args=args, env=env, evidence=evidence
        )

    return Recipe(
        recipe_id=f"derived-{slug(product.name)}-{precision}",
        model_id=model_id,
        huggingface_id=card.checkpoint_in(precision) or model_id,
        precision=precision,
        gpu_type=product.name,
        variants=tuple(map(variant, tensor_parallel_sizes(shape, precision))),
        evidence=evidence,
        description="Made from the model's own numbers: there is no recipe for it on this GPU.",
        generated=True,
    )
