"""`aim-engine recipe diff RECIPE OTHER`: what is different between two recipes, by variant and key."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.catalog.find import find_recipe
from aim_engine.catalog.load import catalog_folders
from aim_engine.catalog.recipe_diff import Difference, differences
from aim_engine.cli.arguments import add_settings, typed_flags
from aim_engine.cli.recipe_show import WHERE, shown
from aim_engine.cli.terminal import Terminal
from aim_engine.report import table
from aim_engine.request import read_request

_EXAMPLES = """examples:
  aim-engine recipe diff qwen3-32b-mi300x-bf16 qwen3-32b-mi300x-fp8
  aim-engine recipe diff qwen3-32b-mi300x-bf16 my/Qwen/Qwen3-32B/qwen3-32b-mi300x-bf16.yaml    mine and the built-in one
"""
_WIDEST = 48  # of a value in the table; --json has all of it


def add_to(actions: Any) -> None:
    parser = actions.add_parser("diff", help="what is different between two", description=__doc__, epilog=_EXAMPLES)
    parser.add_argument("recipe_id", metavar="RECIPE", help="a recipe's id, or its file")
    parser.add_argument("other_id", metavar="OTHER", help="the one to compare it with")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    add_settings(parser, only=WHERE)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    request = read_request(typed_flags(arguments), environment)
    folders = catalog_folders(request.recipes_dir, request.models_dir)
    first, second = (find_recipe(text, folders) for text in (arguments.recipe_id, arguments.other_id))
    found = differences(first, second)
    if arguments.json:
        places = {"first": first.file, "second": second.file}
        terminal.result_json({**places, "differences": [one.as_json() for one in found]})
    elif found:
        header = ("variants", "key", first.recipe_id, second.recipe_id)
        terminal.result("\n".join(table([header, *_rows(found)], terminal.paint)))
    else:
        terminal.say("they are the same")
    return 0


def _rows(found: list[Difference]) -> list[tuple[str, ...]]:
    """One for each key and pair of values, with all the variants that it is different in."""
    variants: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        variants.setdefault((one.key, _short(one.first), _short(one.second)), []).append(one.variant)
    return [(_joined(names), key or "variant", *values) for (key, *values), names in variants.items()]


def _joined(variants: list[str]) -> str:
    """`vllm 1, 2, 4`; the recipe as a whole is "all"."""
    counts: dict[str, list[str]] = {}
    for backend, _, count in (name.partition(" ") for name in variants):
        counts.setdefault(backend, []).append(count)
    return "; ".join(f"{backend} {', '.join(found)}" if backend else "all" for backend, found in counts.items())


def _short(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
