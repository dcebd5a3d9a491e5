"""`aim-engine recipes` (also `list-profiles`): every recipe of a model, or of the catalogue, with its state on this or
on declared hardware.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from aim_engine.catalog.load import catalog_folders, known_models, load_catalog
from aim_engine.cli.arguments import add_model, add_settings, typed_flags
from aim_engine.cli.terminal import Terminal
from aim_engine.decide import look, survey
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, candidates_json, make_plan
from aim_engine.report import recipes_text, state
from aim_engine.request import Request, read_request
from aim_engine.selection.candidate import Judged

_EXAMPLES = """examples:
  aim-engine recipes Qwen/Qwen3-32B --hardware MI300X:4      what of it works there, and why the rest does not
  aim-engine recipes --min-evidence reported --json          the whole catalogue on what is here, for a program
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "recipes",
        aliases=["list-profiles"],
        help="recipes and their state on this hardware",
        description=__doc__,
        epilog=_EXAMPLES,
    )
    add_model(parser, help_text="only this model's recipes: Hugging Face id or model folder")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    add_settings(parser)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    request = read_request(typed_flags(arguments), environment)
    inventory = look(request)
    folders = catalog_folders(request.recipes_dir, request.models_dir)
    models = [request.model] if request.model else list(known_models(folders))
    outcomes = [survey(replace(request, model=model), inventory) for model in models]
    judged = [one for outcome in outcomes for one in outcome.judged]
    if request.model is None:  # what a family or a model's own numbers would give is not the question then
        own = [one for one in judged if not (one.candidate.recipe.is_family or one.candidate.recipe.generated)]
        judged = [*own, *_families(request, inventory)]
    rows = _without_repeats(judged)
    winners = [one for o in outcomes if isinstance(o, Plan) for one in o.judged if one.candidate is o.winner]
    if arguments.json:
        terminal.result_json({"hardware": inventory.as_json(), "recipes": _rows_json(rows, winners)})
    else:
        terminal.say(f"on {inventory.in_words()}:")
        terminal.result(recipes_text(rows, winners, terminal.paint))
    return 0


def _families(request: Request, inventory: Inventory) -> tuple[Judged, ...]:
    """The families' recipes, judged for a model of which nothing is known."""
    families = load_catalog(None, catalog_folders(request.recipes_dir, request.models_dir))
    return make_plan(replace(request, model="any/model"), inventory, families, advise=False).judged


def _without_repeats(judged: list[Judged]) -> list[Judged]:
    """A family's recipes once, not once for each model."""
    seen: dict[tuple[str, str, int], Judged] = {}
    for one in judged:
        recipe = one.candidate.recipe
        seen.setdefault((recipe.recipe_id, one.candidate.variant.backend, one.candidate.variant.gpu_count), one)
    return list(seen.values())


def _rows_json(rows: list[Judged], winners: list[Judged]) -> list[dict[str, Any]]:
    chosen = {id(one.candidate) for one in winners}
    shapes = candidates_json(tuple(rows), None)
    return [
        {**shape, "model_id": one.candidate.recipe.model_id, "gpu_type": one.candidate.recipe.gpu_type,
         "metric": one.candidate.variant.metric, "chosen": id(one.candidate) in chosen, "works": one.passed,
         "path": one.candidate.recipe.file, "state": "chosen" if id(one.candidate) in chosen else state(one),
         "against": [verdict.rule for verdict in one.failures]}
        for shape, one in zip(shapes, rows, strict=True)
    ]  # fmt: skip
