"""`aim-engine schema recipe|model`: the JSON Schema of recipes or of model cards, for editors and other tools."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.terminal import Terminal

_EXAMPLES = """examples:
  aim-engine schema recipe > my/recipe.schema.json     beside the folders of organisations; then the first line of a
                                                       recipe, for editors with a YAML language server, is
                                                       # yaml-language-server: $schema=../../recipe.schema.json
  aim-engine schema model > cards/model.schema.json    the same for model cards: $schema=../model.schema.json
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "schema", help="the JSON Schema of recipes or model cards", description=__doc__, epilog=_EXAMPLES
    )
    parser.add_argument("kind", choices=("recipe", "model"), help="of which files")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.catalog.json_schema import schema_text
    from aim_engine.hardware.products import product_names

    terminal.result(schema_text(arguments.kind, product_names()).rstrip("\n"))
    return 0
