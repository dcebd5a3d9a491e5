"""`aim-engine plan` (also `dry-run`): what would be served, on what, and why; starts nothing."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.arguments import add_model, add_settings, typed_flags
from aim_engine.cli.hub_bar import HubBar
from aim_engine.cli.terminal import Terminal
from aim_engine.decide import decide
from aim_engine.errors import DoesNotFitError, NoAcceleratorError, NoRecipeError, UsageError
from aim_engine.expected import check_expected
from aim_engine.plan import Plan, Refusal
from aim_engine.report import operator_profiles, plan_text, refusal_text
from aim_engine.request import read_request

_EXAMPLES = """examples:
  aim-engine plan Qwen/Qwen3-32B --hardware MI300X:8
  aim-engine plan Qwen/Qwen3-32B --hardware MI300X:8 --metric throughput --json
  aim-engine detect --json > host.json; aim-engine plan Qwen/Qwen3-32B --hardware host.json
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "plan", aliases=["dry-run"], help="what would be served, and why", description=__doc__, epilog=_EXAMPLES
    )
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="the plan as JSON on stdout")
    parser.add_argument("--format", choices=("text", "json", "yaml"), default="text",
                        help="for dry-run: json and yaml print the profiles that AMD's operator reads")  # fmt: skip
    add_settings(parser)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    request = read_request(typed_flags(arguments), environment)
    request.check_leader_port()
    if arguments.command == "dry-run" and arguments.format != "text":
        return _for_operator(arguments, request, terminal)
    if arguments.format == "yaml":
        raise UsageError("--format yaml is for dry-run", hint="use aim-engine plan --json")
    for warning in request.warnings:  # now: a misspelt setting may be why the plan fails
        terminal.warn(warning)
    with HubBar.on(terminal, request.model) as bar:
        outcome = decide(request, progress=bar)
    as_json = arguments.json or arguments.format == "json"
    if isinstance(outcome, Refusal):
        if as_json:
            terminal.result_json(outcome.as_json())
        else:
            terminal.say(refusal_text(outcome))
        raise outcome.error
    check_expected(outcome)
    if as_json:
        terminal.result_json(outcome.as_json())
    else:
        terminal.result(plan_text(outcome, terminal.paint))
    return 0


def _for_operator(arguments: argparse.Namespace, request: Any, terminal: Terminal) -> int:
    """The discovery contract: a JSON array and nothing else on stdout; no match is an empty one and exit 0."""
    profiles: list[dict[str, Any]] = []
    why = ""
    try:
        outcome = decide(request)
        if isinstance(outcome, Plan):
            profiles = operator_profiles(outcome)
        else:
            why = outcome.error.message
    except (NoAcceleratorError, NoRecipeError, DoesNotFitError) as error:
        why = error.message
    if why and request.log_level != "error":  # a pod's log is both streams, and AMD's operator reads it as JSON
        terminal.say(f"no profile: {why}")
    if arguments.format == "yaml":
        import yaml

        terminal.result(yaml.safe_dump(profiles, sort_keys=False, allow_unicode=True).rstrip())
    else:
        terminal.result_json(profiles)
    return 0
