"""`aim-engine models`: the models that have a card or a recipe."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import Recipe
from aim_engine.cli.terminal import Terminal
from aim_engine.report import models_text
from aim_engine.request import read_request


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("models", help="the known models", description=__doc__)
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    parser.add_argument("--recipes-dir", metavar="DIR", help="more recipes [AIM_RECIPES_DIR]")
    parser.add_argument("--models-dir", metavar="DIR", help="more model cards [AIM_MODELS_DIR]")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    flags = {"recipes_dir": arguments.recipes_dir, "models_dir": arguments.models_dir}
    request = read_request(flags, environment)
    recipes, cards, problems = load_everything(catalog_folders(request.recipes_dir, request.models_dir))
    for problem in problems:
        terminal.warn(str(problem))
    # by id: a recipe or a card of the user's takes the place of a built-in one, it is no second one
    own = {(one.model_id, one.recipe_id): one for one in reversed(recipes) if not one.is_family}
    known = {card.model_id: card for card in reversed(cards)}
    without_card = [ModelCard(model_id=model_id) for model_id in {model_id for model_id, _ in own} - known.keys()]
    shown = sorted([*known.values(), *without_card], key=lambda card: card.model_id.lower())
    if arguments.json:
        terminal.result_json([_json(card, [one for one in own.values() if one.model_id == card.model_id])
                              for card in shown])  # fmt: skip
    else:
        terminal.result(models_text(shown, sorted(own.values(), key=lambda one: one.recipe_id), terminal.paint))
        terminal.say("any other small model can be tried on a CPU; see: aim-engine recipes --hardware cpu")
    return 0


def _json(card: ModelCard, recipes: list[Recipe]) -> dict[str, Any]:
    """The card's keys, and what its recipes are for; `has_card` tells whether the numbers are in a file."""
    return {
        **asdict(card),
        "has_card": bool(card.file),
        "recipes": len(recipes),
        "recipe_ids": sorted(one.recipe_id for one in recipes),
        "gpus": sorted({one.gpu_type for one in recipes}),
        "precisions": sorted({*card.weights_bytes, *(one.precision for one in recipes)}),
    }
