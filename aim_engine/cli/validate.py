"""`aim-engine validate`: read recipes and model cards, and report every error of every file at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aim_engine.backends.registry import backend as find_backend
from aim_engine.backends.registry import is_known
from aim_engine.catalog.load import catalog_folders, load_everything, read_loose_file
from aim_engine.catalog.recipe import Recipe
from aim_engine.catalog.yaml_file import Problem
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import CatalogError, EngineRefusedError, InputError
from aim_engine.hardware.products import product_by_name
from aim_engine.request import read_request

_EXAMPLES = """examples:
  aim-engine validate                      the built-in catalogue and AIM_RECIPES_DIR, AIM_MODELS_DIR
  aim-engine validate my-recipes/          a folder of <org>/<model>/<recipe id>.yaml
  aim-engine validate my-recipe.yaml       one file
  aim-engine validate --engine             and ask the installed engine's own parser about every recipe
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "validate", help="check recipe and model files", description=__doc__, epilog=_EXAMPLES
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", type=Path, help="files or folders; none: the whole catalogue"
    )
    parser.add_argument(
        "--engine", action="store_true", help="also ask the installed engine's own parser (takes seconds; needs no GPU)"
    )
    parser.add_argument("--json", action="store_true", help="the problems as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    request = read_request({}, environment)
    if arguments.paths:
        results = [read_loose_file(path) for path in arguments.paths]
        count = sum(files for files, _, _ in results)
        recipes = [recipe for _, found, _ in results for recipe in found]
        problems = [problem for _, _, found in results for problem in found]
    else:
        recipes, cards, problems = load_everything(catalog_folders(request.recipes_dir, request.models_dir))
        count = len({*(r.file for r in recipes), *(c.file for c in cards), *(p.file for p in problems)})
    problems = [*problems, *(problem for recipe in recipes for problem in dict.fromkeys(_unreachable(recipe)))]
    if arguments.engine:
        problems = [*problems, *_engine_problems(recipes, request.backend, terminal)]
    if arguments.json:
        terminal.result_json({"files": count, "problems": [asdict(problem) for problem in problems]})
    if problems:
        raise _error(problems, count)
    if not arguments.json:
        terminal.result(f"{count} files, no errors")
    return 0


def _unreachable(recipe: Recipe) -> Iterator[Problem]:
    """What would keep a well-formed recipe from ever being used: a GPU that nobody makes, an option no version has."""
    item = f"recipe {recipe.recipe_id}"
    if recipe.gpu_type != "CPU":
        try:
            product_by_name(recipe.gpu_type)
        except InputError as unknown:
            yield Problem(file=recipe.file, item=item, key="hardware.gpu_type",
                          sentence=f"{unknown.message}; {unknown.hint}")  # fmt: skip
    for variant in recipe.variants:
        if not is_known(variant.backend):
            continue  # sglang_serve, say, where that backend is a plug-in of somebody else's
        for complaint in find_backend(variant.backend).review(recipe, variant):
            of_variant = complaint.key.startswith(("args.", "env."))
            place = f"{variant.backend}_serve.{variant.gpu_count}_gpu.{complaint.key}" if of_variant else complaint.key
            yield Problem(file=recipe.file, item=item, key=place, sentence=complaint.sentence)


def _engine_problems(recipes: list[Recipe], backend_name: str, terminal: Terminal) -> list[Problem]:
    """What the installed engine says against the recipes that are for it."""
    backend = find_backend(backend_name)
    engine = backend.find(tuple(sys.path), sys.executable)
    if engine is None:
        raise EngineRefusedError(
            f"{backend_name} is not installed for this Python, so it cannot be asked",
            hint="run this in the image, or after scripts/setup cpu",
        )
    terminal.say(f"asking {engine.distribution} {engine.version} about {len(recipes)} recipes")
    inspect = backend.inspector(engine)
    return [
        Problem(
            file=recipe.file,
            item=f"recipe {recipe.recipe_id}",
            key=f"{variant.backend}_serve.{variant.gpu_count}_gpu.{complaint.key}",
            sentence=complaint.sentence,
        )
        for recipe in recipes
        for variant in recipe.variants
        if variant.backend == backend_name
        for complaint in inspect(variant.args, variant.env)
    ]


def _error(problems: list[Problem], count: int) -> CatalogError:
    wrong = len({problem.file for problem in problems})
    return CatalogError(
        f"{len(problems)} error{'s' if len(problems) > 1 else ''} in {wrong} of {count} files",
        hint="mend the files named above",
        details=tuple(str(problem) for problem in problems),
    )
