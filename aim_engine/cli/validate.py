"""`aim-engine validate`: read recipes and model cards, and report every error of every file at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aim_engine.backends.base import Backend, Complaint
from aim_engine.backends.registry import backend as find_backend
from aim_engine.catalog.load import catalog_folders, known_cards, load_everything, read_loose_file
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.catalog.yaml_file import Problem
from aim_engine.cli.steps import Steps
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import CatalogError, EngineRefusedError
from aim_engine.hardware.installed import Engine
from aim_engine.lint import lint, problem_of
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
    found = [*problems, *lint(recipes, cards)]
    if arguments.engine:
        asked = _engine_problems(recipes, request.backend, terminal)
        said = {(one.file, one.key) for one in asked}  # of one key the engine's own words are the better ones
        found = [*(one for one in found if (one.file, one.key) not in said), *asked]
    problems, warnings = ([one for one in found if one.is_warning is doubtful] for doubtful in (False, True))
    if arguments.json:
        shown = {"problems": [asdict(one) for one in problems], "warnings": [asdict(one) for one in warnings]}
        terminal.result_json({"files": count, **shown})
    else:
        for warning in warnings:
            terminal.warn(f"{warning} [{warning.kind}]")
    if problems:
        raise _error(problems, count)
    if not arguments.json:
        doubts = f", {len(warnings)} warning{'s' if len(warnings) > 1 else ''}" if warnings else ""
        terminal.result(f"{count} files, no errors{doubts}")
    return 0


def _engine_problems(recipes: list[Recipe], backend_name: str, terminal: Terminal) -> list[Problem]:
    """What the installed engine says about the recipes that are for it: it is imported once, and asked about all."""
    backend = find_backend(backend_name)
    engine = backend.find(tuple(sys.path), sys.executable)
    if engine is None:
        raise EngineRefusedError(
            f"{backend_name} is not installed for this Python, so it cannot be asked",
            hint=f"run this where it is, as in an image with {backend_name}",
        )
    variants = [(recipe, one) for recipe in recipes for one in recipe.variants if one.backend == backend_name]
    shown = f"{engine.distribution} {engine.version}"
    with Steps(terminal) as steps:
        steps.begin("engine")
        steps.progress(0, 0, f"{shown} is imported")
        inspect = _inspector(backend, engine, shown)
        steps.progress(0, 0, f"{shown} is asked about {len(variants)} variants")
        found = [
            problem_of(recipe, variant, complaint) for recipe, variant in variants for complaint in inspect(variant)
        ]
        steps.end(f"{shown} was asked about {len(variants)} variants")
    return found


def _inspector(backend: Backend, engine: Engine, shown: str) -> Callable[[Variant], Iterable[Complaint]]:
    try:
        return backend.inspector(engine)
    except SystemExit:  # or the engine's own exit code, which may be 0, would be ours
        raise EngineRefusedError(
            f"{shown} ended the program while it was imported", hint="run this where the engine works: in the image"
        ) from None


def _error(problems: list[Problem], count: int) -> CatalogError:
    wrong = len({problem.file for problem in problems})
    return CatalogError(
        f"{len(problems)} error{'s' if len(problems) > 1 else ''} in {wrong} of {count} files",
        hint="mend the files named above",
        details=tuple(f"{problem} [{problem.kind}]" for problem in problems),
    )
