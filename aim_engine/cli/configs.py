"""`aim-engine configs MODEL`: every configuration in which a model can be served, with its state on this or on
declared hardware, and the one that would be chosen.
"""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.arguments import add_model, add_settings, typed_flags
from aim_engine.cli.terminal import Terminal
from aim_engine.decide import look, survey
from aim_engine.plan import Plan, candidates_json
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
    request = read_request(typed_flags(arguments), environment)
    model = request.required_model
    inventory = look(request)
    outcome = survey(request, inventory)
    chosen = outcome.winner if isinstance(outcome, Plan) else None
    if arguments.json:
        configurations = [
            {**shape, "gpu_type": one.candidate.recipe.gpu_type, "huggingface_id": one.candidate.recipe.huggingface_id,
             "metric": one.candidate.variant.metric, "chosen": one.candidate is chosen, "works": one.passed}
            for shape, one in zip(candidates_json(outcome.judged, chosen), outcome.judged, strict=True)
        ]  # fmt: skip
        terminal.result_json({"model_id": model, "hardware": inventory.as_json(), "configurations": configurations})
    else:
        terminal.say(f"{model} on {inventory.in_words()}:")
        winners = [one for one in outcome.judged if one.candidate is chosen]
        terminal.result(recipes_text(list(outcome.judged), winners, terminal.paint))
    return 0
