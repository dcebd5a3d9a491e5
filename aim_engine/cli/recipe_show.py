"""`aim-engine recipe show RECIPE`: one recipe with all that its anchors and defaults stand for, and for each of its
variants the exact command.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.find import find_recipe
from aim_engine.catalog.load import catalog_folders, load_catalog
from aim_engine.catalog.recipe import Recipe
from aim_engine.cli.arguments import add_settings, typed_flags
from aim_engine.cli.terminal import Terminal
from aim_engine.report import Paint
from aim_engine.request import read_request
from aim_engine.resolved import Resolved, resolve
from aim_engine.selection.standing import as_it_stands, standing

_EXAMPLES = """examples:
  aim-engine recipe show qwen3-32b-mi300x-fp8
  aim-engine recipe show my/Qwen/Qwen3-8B/qwen3-8b-mi300x-bf16.yaml --json
"""
WHERE = frozenset({"recipes_dir", "models_dir"})


def add_to(actions: Any) -> None:
    parser = actions.add_parser("show", help="one, with its commands", description=__doc__, epilog=_EXAMPLES)
    parser.add_argument("recipe_id", metavar="RECIPE", help="a recipe's id, or its file")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    add_settings(parser, only=WHERE)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    request = read_request(typed_flags(arguments), environment)
    folders = catalog_folders(request.recipes_dir, request.models_dir)
    recipe = find_recipe(arguments.recipe_id, folders)
    card = None if recipe.is_family else load_catalog(recipe.model_id, folders).card
    found = resolve(recipe, card)
    if arguments.json:
        variants = [{**one.as_json(), "evidence": _evidence_json(one.variant.evidence)} for one in found]
        terminal.result_json({**asdict(recipe), "evidence": _evidence_json(recipe.evidence), "variants": variants})
    else:
        terminal.result(_page(recipe, found, terminal.paint))
    return 0


def _evidence_json(evidence: Evidence) -> dict[str, Any]:
    return {**asdict(evidence), "counts_as": standing(evidence, None).level}


def _page(recipe: Recipe, found: tuple[Resolved, ...], paint: Paint) -> str:
    facts = {
        "file": recipe.file,
        "model": "any" if recipe.is_family else recipe.model_id,
        "checkpoint": "the model itself" if recipe.is_family else recipe.huggingface_id,
        "precision": recipe.precision,
        "hardware": recipe.gpu_type,
        "evidence": as_it_stands(recipe.evidence, None).in_words(),
    }
    lines = [paint("strong", recipe.recipe_id), *([f"  {recipe.description}"] if recipe.description else [])]
    lines += [f"  {name:<11} {value}" for name, value in facts.items()]
    for one in found:
        lines += ["", *_variant(recipe, one, paint)]
    return "\n".join(lines)


def _variant(recipe: Recipe, one: Resolved, paint: Paint) -> list[str]:
    variant = one.variant
    notes = [f"for {variant.metric}" if variant.metric else "", "" if variant.enabled else "switched off"]
    title = f"{variant.backend} on {variant.gpu_count} x {recipe.gpu_type}"
    lines = [paint("strong", ", ".join([title, *(note for note in notes if note)]))]
    if variant.evidence != recipe.evidence:
        lines.append(f"  {'evidence':<11} {as_it_stands(variant.evidence, None).in_words()}")
    lines += [*_words("args", variant.args), *_words("env", variant.env)]
    lines += [f"  {'optional':<11} {', '.join(variant.optional)}"] if variant.optional else []
    said = shlex.join(one.command.argv) if one.command else f"none: {one.reason}"
    return [*lines, f"  {'command':<11} {said}"]


def _words(title: str, values: Mapping[str, Any]) -> list[str]:
    width = max((len(name) for name in values), default=0)
    rows = [f"{name:<{width}}  {shown(value)}" for name, value in values.items()]
    return [f"  {title if index == 0 else '':<11} {row}" for index, row in enumerate(rows)]


def shown(value: Any) -> str:
    """An argument's value as a recipe writes it."""
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
