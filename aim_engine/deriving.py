"""Recipes that are made of a model's numbers: a catalogue, a request and GPUs in; recipes for what the files' recipes
do not cover out. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from aim_engine.backends.registry import backend as find_backend
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import Recipe
from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Inventory
from aim_engine.hardware.products import Product, product_by_name
from aim_engine.request import Request


def missing_recipes(catalog: Catalog, request: Request, inventory: Inventory) -> tuple[Recipe, ...]:
    """For GPUs that no recipe is for, and for a precision that none has and that is asked for."""
    card = catalog.card
    if card is None:
        return ()
    made = [find_backend(request.backend).derive(replace(card, precision=one), request.required_model, product)
            for product in products_of(inventory) for one in _missing(catalog, card, product, request)]  # fmt: skip
    return tuple(recipe for recipe in made if recipe)


def spare_recipes(catalog: Catalog, request: Request, inventory: Inventory) -> tuple[Recipe, ...]:
    """For every kind of GPU here and every precision with a checkpoint, as far as none was made before."""
    if catalog.card is None:
        return ()
    there = {recipe.recipe_id for recipe in catalog.recipes if recipe.generated}
    made = [find_backend(request.backend).derive(replace(catalog.card, precision=one), request.required_model, product)
            for product in products_of(inventory) for one in catalog.card.precisions]  # fmt: skip
    return tuple(recipe for recipe in made if recipe and recipe.recipe_id not in there)


def with_checkpoints(card: ModelCard, recipes: Sequence[Recipe]) -> ModelCard:
    """The card with the checkpoints in other precisions that recipes serve, on whichever GPU."""
    others = [one for one in recipes if not one.is_family and one.huggingface_id != one.model_id]
    known = {one.precision: one.huggingface_id for one in reversed(others) if one.precision != card.precision}
    return replace(card, checkpoints={**known, **card.checkpoints}) if known else card


def products_of(inventory: Inventory) -> list[Product]:
    """The kinds of GPUs here that are in the table of products."""
    found = []
    for name in sorted({gpu.product for gpu in inventory.usable_gpus}):
        with suppress(InputError):  # a GPU that nobody has written the facts of
            found.append(product_by_name(name))
    return found


def _missing(catalog: Catalog, card: ModelCard, product: Product, request: Request) -> list[str]:
    """The precisions with a checkpoint but without a recipe for that GPU and the asked engine: all of them where it has
    no recipe at all, otherwise one that is asked for.
    """
    there = {one.precision for one in catalog.recipes if one.gpu_type.casefold() == product.name.casefold()
             and any(variant.backend == request.backend for variant in one.variants)}  # fmt: skip
    wanted = card.precisions if not there else (request.precision,)
    return [one for one in wanted if one in card.precisions and one not in there]
