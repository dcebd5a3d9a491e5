"""`aim-engine validate`: read recipes and model cards, and report every error of every file at once."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aim_engine.catalog.load import catalog_folders, load_everything, read_loose_file
from aim_engine.catalog.yaml_file import Problem
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import CatalogError
from aim_engine.request import read_request

_EXAMPLES = """examples:
  aim-engine validate                      the built-in catalogue and AIM_RECIPES_DIR, AIM_MODELS_DIR
  aim-engine validate my-recipes/          a folder of <org>/<model>/<recipe id>.yaml
  aim-engine validate my-recipe.yaml       one file
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "validate", help="check recipe and model files", description=__doc__, epilog=_EXAMPLES
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", type=Path, help="files or folders; none: the whole catalogue"
    )
    parser.add_argument("--json", action="store_true", help="the problems as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    request = read_request({}, environment)
    if arguments.paths:
        results = [read_loose_file(path) for path in arguments.paths]
        count = sum(files for files, _ in results)
        problems = [problem for _, found in results for problem in found]
    else:
        recipes, cards, problems = load_everything(catalog_folders(request.recipes_dir, request.models_dir))
        count = len({*(r.file for r in recipes), *(c.file for c in cards), *(p.file for p in problems)})
    if arguments.json:
        terminal.result_json({"files": count, "problems": [asdict(problem) for problem in problems]})
    if problems:
        raise _error(problems, count)
    if not arguments.json:
        terminal.result(f"{count} files, no errors")
    return 0


def _error(problems: list[Problem], count: int) -> CatalogError:
    wrong = len({problem.file for problem in problems})
    return CatalogError(
        f"{len(problems)} error{'s' if len(problems) > 1 else ''} in {wrong} of {count} files",
        hint="mend the files named above",
        details=tuple(str(problem) for problem in problems),
    )
