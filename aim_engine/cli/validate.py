"""`aim-engine validate`: read recipes and model cards, and report every error of every file at once."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aim_engine.backends.base import Backend, Complaint
from aim_engine.backends.registry import backend as find_backend
from aim_engine.catalog.load import catalog_folders, known_cards, load_everything, read_loose_file
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.parsed import RECORD, damaged, digest, record
from aim_engine.catalog.problem_kinds import OF_ENGINES
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.catalog.yaml_file import Problem
from aim_engine.cli.steps import Steps
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import CatalogError, EngineRefusedError, UsageError
from aim_engine.hardware.installed import Engine
from aim_engine.lint import lint, problem_of
from aim_engine.request import Request, read_request

_EXAMPLES = """examples:
  aim-engine validate                      the built-in catalogue and AIM_RECIPES_DIR, AIM_MODELS_DIR
  aim-engine validate my-recipes/          a folder of <org>/<model>/<recipe id>.yaml
  aim-engine validate my-recipe.yaml       one file
  aim-engine validate --engine             and ask the installed engine's own parser about every recipe
  aim-engine validate --engine --record my-recipes/    and keep what it accepted: their evidence is "parsed" then
"""
# Warnings that say that the engine did not take all of a recipe: something was left out, or does nothing.
_NOT_WHOLE = {"variable", *OF_ENGINES} - {"renamed", "deprecated"}


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
    parser.add_argument(
        "--record",
        action="store_true",
        help=f"write into {RECORD} beside the recipes which of them the engine accepted whole: their evidence counts "
        "as parsed then, until the file or the engine's version changes",
    )
    parser.add_argument("--json", action="store_true", help="the problems as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    if arguments.record and not arguments.engine:
        raise UsageError("--record is for --engine: it keeps what the engine's parser accepted", hint="give both")
    request = read_request({}, environment)
    count, recipes, cards, found = _read(arguments.paths, request)
    found = [*found, *lint(recipes, cards)]
    recorded: list[Path] = []
    if arguments.engine:
        asked = _Asked(recipes, request.backend)
        told = asked.problems(terminal)
        said = {(one.file, one.key) for one in told}  # of one key the engine's own words are the better ones
        found = [*(one for one in found if (one.file, one.key) not in said), *told]
        recorded = asked.record(found) if arguments.record else []
    found = [*found, *damaged(recipes)]
    problems, warnings = ([one for one in found if one.is_warning is doubtful] for doubtful in (False, True))
    if arguments.json:
        shown = {"problems": [asdict(one) for one in problems], "warnings": [asdict(one) for one in warnings]}
        also = {"recorded": [str(path) for path in recorded]} if arguments.record else {}
        terminal.result_json({"files": count, **shown, **also})
    else:
        for warning in warnings:
            terminal.warn(f"{warning} [{warning.kind}]")
    if problems:
        raise _error(problems, count)
    if not arguments.json:
        doubts = f", {len(warnings)} warning{'s' if len(warnings) > 1 else ''}" if warnings else ""
        kept = f", {len(recorded)} recorded as parsed by {asked.engine_in_words}" if arguments.record else ""
        terminal.result(f"{count} files, no errors{doubts}{kept}")
    return 0


def _read(paths: list[Path], request: Request) -> tuple[int, list[Recipe], dict[str, ModelCard], list[Problem]]:
    """How many files there are, what stands in them, and what is wrong with them."""
    folders = catalog_folders(request.recipes_dir, request.models_dir)
    if not paths:
        recipes, read, problems = load_everything(folders)
        count = len({*(r.file for r in recipes), *(c.file for c in read), *(p.file for p in problems)})
        return count, recipes, {card.model_id: card for card in reversed(read)}, problems
    results = [read_loose_file(path) for path in paths]
    recipes = [recipe for _, found, _ in results for recipe in found]
    problems = [problem for _, _, found in results for problem in found]
    return sum(files for files, _, _ in results), recipes, known_cards(folders), problems


class _Asked:
    """The installed engine, and the recipes that are for it with their files as they were when it was asked.

    Raises:
        EngineRefusedError: it is not installed.
    """

    def __init__(self, recipes: list[Recipe], backend_name: str) -> None:
        self._backend = find_backend(backend_name)
        engine = self._backend.find(tuple(sys.path), sys.executable)
        if engine is None:
            raise EngineRefusedError(
                f"{backend_name} is not installed for this Python, so it cannot be asked",
                hint=f"run this where it is, as in an image with {backend_name}",
            )
        self._engine = engine
        self._variants = [(recipe, one) for recipe in recipes for one in recipe.variants if one.backend == backend_name]
        self._unasked = Counter(one.backend for recipe in recipes for one in recipe.variants
                                if one.backend != backend_name)  # fmt: skip
        self._digests = {path: digest(path) for path in {Path(recipe.file) for recipe, _ in self._variants}}

    @property
    def engine_in_words(self) -> str:
        return f"{self._engine.name} {self._engine.version}"

    def problems(self, terminal: Terminal) -> list[Problem]:
        """What it says about them: it is imported once, and asked about all."""
        shown, variants = f"{self._engine.distribution} {self._engine.version}", self._variants
        with Steps(terminal) as steps:
            steps.begin("engine")
            steps.progress(0, 0, f"{shown} is imported")
            inspect = _inspector(self._backend, self._engine, shown)
            steps.progress(0, 0, f"{shown} is asked about {len(variants)} variants")
            found = [
                problem_of(recipe, variant, complaint) for recipe, variant in variants for complaint in inspect(variant)
            ]
            rest = "".join(
                f"; {count} are for {name}, and were not asked about" for name, count in self._unasked.items()
            )
            steps.end(f"{shown} was asked about {len(variants)} variants{rest}")
        return found

    def record(self, found: list[Problem]) -> list[Path]:
        """Write down beside them which files it took whole; those.

        Raises:
            CacheError: a folder cannot be written to.
            EngineRefusedError: it tells no version, so nobody could know when that is outdated.
        """
        if not self._engine.version:
            raise EngineRefusedError(
                f"{self._engine.name} tells no version, so what it accepts cannot be recorded",
                hint="leave --record out, or install it with its metadata",
            )
        against = {Path(one.file) for one in found if not one.is_warning or one.kind in _NOT_WHOLE}
        verdicts = {path: None if path in against else text for path, text in self._digests.items()}
        record(self.engine_in_words, verdicts, datetime.now(UTC).date().isoformat())
        return sorted(path for path, text in verdicts.items() if text)


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
