"""`aim-engine validate`: read recipes and model cards, and report every error of every file at once."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aim_engine.backends.registry import backend as find_backend
from aim_engine.catalog.load import catalog_folders, known_cards, load_everything, read_loose_file
from aim_engine.catalog.recipe import Recipe
from aim_engine.catalog.yaml_file import Problem
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import CatalogError, EngineRefusedError
from aim_engine.lint import lint
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
        cards = known_cards(catalog_folders(request.recipes_dir, request.models_dir))
    else:
        recipes, read, problems = load_everything(catalog_folders(request.recipes_dir, request.models_dir))
        count = len({*(r.file for r in recipes), *(c.file for c in read), *(p.file for p in problems)})
        cards = {card.model_id: card for card in reversed(read)}
    problems = [*problems, *lint(recipes, cards)]
    if arguments.engine:
        problems = [*problems, *_engine_problems(recipes, request.backend, terminal)]
    if arguments.json:
        terminal.result_json({"files": count, "problems": [asdict(problem) for problem in problems]})
    if problems:
        raise _error(problems, count)
    if not arguments.json:
        terminal.result(f"{count} files, no errors")
    return 0


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
        details=tuple(f"{problem} [{problem.kind}]" for problem in problems),
    )
