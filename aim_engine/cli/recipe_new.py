"""`aim-engine recipe new MODEL`: a recipe for a model that has none, as a file to edit."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from aim_engine.backends.registry import backend
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.cli.arguments import FITTING, add_model, add_settings, typed_flags, unknown_numbers
from aim_engine.cli.terminal import Terminal
from aim_engine.decide import know, look
from aim_engine.errors import CacheError, InputError, NoRecipeError
from aim_engine.hardware.inventory import Inventory
from aim_engine.hardware.products import Product, product_by_name, product_names
from aim_engine.plan import make_plan
from aim_engine.request import Request, read_request
from aim_engine.selection.candidate import Judged
from aim_engine.selection.memory import in_gib
from aim_engine.values import is_hub_id, slug

_DESCRIPTION = """Write a recipe for a model on the GPUs that are here or declared, as a file to edit.

It says what follows from the model's own numbers and from what is known of the GPU: a variant for each number of GPUs
that divides the model, switched off where it does not fit, with the longest context that does; the parsers of the
model's family; the switches of the GPU's kernels. Nobody has tuned or tried it, and its evidence says so.
"""
_EXAMPLES = """examples:
  aim-engine recipe new Qwen/Qwen3-8B --hardware MI300X:8            print it
  aim-engine recipe new Qwen/Qwen3-8B --hardware MI300X:8 --into my  write my/Qwen/Qwen3-8B/<recipe id>.yaml
  aim-engine plan Qwen/Qwen3-8B --hardware MI300X:8 --recipes-dir my    and plan with it
"""


def add_to(actions: Any) -> None:
    new = actions.add_parser("new", help="for a model on this or declared hardware", description=_DESCRIPTION,
                             epilog=_EXAMPLES)  # fmt: skip
    add_model(new)
    new.add_argument("--into", dest="output", metavar="DIR", type=Path, help="a folder of recipes to write it into")
    add_settings(new, only=FITTING)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    request = read_request(typed_flags(arguments), environment)
    inventory = look(request)
    catalog = know(request, inventory)
    made = _derived(request, inventory, catalog)
    for known in _known_for(catalog, inventory):
        effect = "takes its place" if known.recipe_id == made.recipe_id else "competes with it"
        terminal.warn(
            f"there is a recipe already, {known.recipe_id}, and nobody has tuned this one, which {effect} in a folder "
            f"of yours. Where to begin: {known.file}"
        )
    recipe, judged = _fitted(made, request, inventory, catalog)
    text = _text(recipe, judged, inventory)
    if arguments.output is None:
        terminal.result(text.rstrip("\n"))
        return 0
    terminal.result(str(_written(arguments.output, recipe, text)))
    return 0


def _known_for(catalog: Catalog, inventory: Inventory) -> list[Recipe]:
    """Recipes in files for what is here."""
    here = {name.casefold() for name in inventory.usable_products}
    return [one for one in catalog.recipes
            if not one.generated and not one.is_family and one.gpu_type.casefold() in here]  # fmt: skip


def _derived(request: Request, inventory: Inventory, catalog: Catalog) -> Recipe:
    if request.model_folder is not None or not is_hub_id(request.required_model):
        raise InputError(
            "a recipe is for a model with a Hugging Face id, and this is a folder",
            hint="a folder is served without a recipe of its own: aim-engine plan FOLDER",
        )
    product = _product(inventory)
    card = catalog.card
    if card is not None and request.precision != "auto":
        card = _in_precision(card, request.precision)
    made = backend(request.backend).derive(card, request.required_model, product) if card else None
    if made is None:
        raise NoRecipeError(
            f"not enough is known of {request.required_model} to write a recipe for it",
            hint=unknown_numbers(request),
        )
    named = name_in_ids(request.required_model, catalog)
    return replace(made, recipe_id=made.recipe_id.replace("derived", named, 1), generated=False)


def name_in_ids(model_id: str, catalog: Catalog) -> str:
    """What the ids of the model's recipes in files begin with (glm-4.5-air-mi300x-fp8); else made of its own name."""
    for known in catalog.recipes:
        begun, told, _ = known.recipe_id.partition(f"-{slug(known.gpu_type)}-")
        if told and not known.generated and not known.is_family:
            return begun
    return re.sub(r"[^a-z0-9.]+", "-", model_id.rpartition("/")[2].lower()).strip("-.")


def _in_precision(card: ModelCard, precision: str) -> ModelCard:
    if precision not in card.precisions:
        raise InputError(
            f"no checkpoint of {card.model_id} in {precision} is known, only in {' and '.join(card.precisions)}",
            hint=f"name that checkpoint as the model: aim-engine recipe new ORG/NAME-{precision.upper()}",
        )
    return replace(card, precision=precision)


def _product(inventory: Inventory) -> Product:
    products = [name for name in inventory.usable_products if name != "CPU"]
    if len(products) != 1:
        raise InputError(
            f"a recipe is for one kind of GPU, and here is {inventory.in_words()}",
            hint="name one: --hardware MI300X:8",
        )
    return product_by_name(products[0])


def _fitted(
    recipe: Recipe, request: Request, inventory: Inventory, catalog: Catalog
) -> tuple[Recipe, dict[int, Judged]]:
    """The recipe with each variant's context as it fits, and its verdicts by number of GPUs."""
    trial = replace(recipe, generated=True)
    asked = replace(request, recipe=None, gpu_count=None, metric="latency")
    judged = make_plan(asked, inventory, replace(catalog, recipes=(trial,)), advise=False).judged
    by_count = {one.candidate.variant.gpu_count: one for one in judged if one.candidate.replicas == 1}
    variants = tuple(_fit(variant, by_count.get(variant.gpu_count)) for variant in recipe.variants)
    return replace(recipe, variants=variants), by_count


def _fit(variant: Variant, judged: Judged | None) -> Variant:
    book = judged.candidate.ledger if judged else None
    enough = judged is not None and len(judged.candidate.gpus) == variant.gpu_count
    if book is None or not enough:
        return variant
    context = {backend(variant.backend).context_option: book.context_tokens} if book.fits else {}
    return replace(variant, enabled=book.fits, args={**variant.args, **context})


def _text(recipe: Recipe, judged: dict[int, Judged], inventory: Inventory) -> str:
    from aim_engine.catalog.recipe_text import recipe_text

    remarks = [
        f"{recipe.huggingface_id} in {recipe.precision} on {recipe.gpu_type}, made by aim-engine recipe new for "
        f"{inventory.in_words()}.",
        "Change what you know better, then say so in `evidence`. aim-engine validate FILE checks it.",
    ]
    return recipe_text(recipe, remarks, {count: _remark(one) for count, one in judged.items()})


def _remark(judged: Judged) -> str:
    book, count = judged.candidate.ledger, judged.candidate.variant.gpu_count
    if book is None or len(judged.candidate.gpus) < count:
        return "not checked: fewer GPUs are here"
    if not book.fits:
        return f"does not fit by {in_gib(book.missing_bytes)} a GPU"
    return f"{in_gib(book.total_bytes)} of {in_gib(book.budget_bytes)} a GPU with {book.context_tokens:,} tokens"


def _written(folder: Path, recipe: Recipe, text: str) -> Path:
    from aim_engine.catalog.json_schema import FILES, schema_text

    path = folder / recipe.model_id / f"{recipe.recipe_id}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        schema = folder / FILES["recipe"]  # where the recipe's first line says that it is
        if not schema.exists():
            schema.write_text(schema_text("recipe", product_names()), encoding="utf-8")
    except FileExistsError:
        raise InputError(
            f"{path} is there already", hint="it is not overwritten: move it away, or name another folder"
        ) from None
    except OSError as error:
        raise CacheError(f"{path} cannot be written: {error.strerror}", hint="name another folder") from None
    return path
