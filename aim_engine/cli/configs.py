"""`aim-engine configs MODEL`: every configuration in which a model can be served, with its state on this or on
declared hardware, and the one that would be chosen.
"""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.arguments import add_model, add_settings, typed_flags
from aim_engine.cli.terminal import Terminal
from aim_engine.report import recipes_text
from aim_engine.request import read_request

_EXAMPLES = """examples:
  aim-engine configs Qwen/Qwen3-32B
  aim-engine configs Qwen/Qwen3-32B --hardware MI300X:4 --json
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "configs", help="a model's configurations on this hardware", description=__doc__, epilog=_EXAMPLES
    )
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    add_settings(parser)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.engine import AIMEngine

    request = read_request(typed_flags(arguments), environment)
    with AIMEngine(environment=environment) as engine:
        found = engine.configurations(request)
    if arguments.json:
        terminal.result_json(found.as_json())
    else:
        terminal.say(f"{found.model_id} on {found.inventory.in_words()}:")
        winners = [found.chosen] if found.chosen else []
        terminal.result(recipes_text(list(found.judged), winners, terminal.paint))
    return 0
