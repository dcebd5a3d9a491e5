"""`aim-engine completion SHELL`: prints a completion script, made from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from aim_engine.catalog.find import recipe_ids
from aim_engine.catalog.load import catalog_folders
from aim_engine.cli.arguments import choices
from aim_engine.cli.terminal import Terminal
from aim_engine.request import SETTINGS, read_request

_EXAMPLES = """examples:
  eval "$(aim-engine completion bash)"                        this shell
  aim-engine completion zsh > ~/.zfunc/_aim-engine            every zsh (with ~/.zfunc on fpath)
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("completion", help="shell completion", description=__doc__, epilog=_EXAMPLES)
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    import shtab

    from aim_engine.cli.main import build_parser

    request = read_request({}, environment)
    parser = build_parser()
    _add_choices(parser, recipe_ids(catalog_folders(request.recipes_dir, request.models_dir)))
    terminal.result(shtab.complete(parser, shell=arguments.shell))
    return 0


def _add_choices(parser: argparse.ArgumentParser, recipes: list[str]) -> None:
    """Let the shell offer a setting's legal words and the ids of the recipes there are now. The real parser has no such
    choices: a wrong value is an input error, not a usage error.
    """
    legal: dict[str, Sequence[str]] = {setting.field: choices(setting) for setting in SETTINGS if choices(setting)}
    legal |= dict.fromkeys(("recipe", "recipe_id", "other_id"), recipes)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _add_choices(command, recipes)
        elif action.dest in legal:
            action.choices = legal[action.dest]
