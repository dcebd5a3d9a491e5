"""`aim-engine recipe`: write, show, compare and explain recipes. One file for each of its actions beside this one."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from aim_engine.cli.terminal import Terminal

_ACTIONS = ("new", "show", "diff", "explain")


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("recipe", help="write, show, compare and explain recipes", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action in _ACTIONS:
        importlib.import_module(f"aim_engine.cli.recipe_{action}").add_to(actions)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    code: int = importlib.import_module(f"aim_engine.cli.recipe_{arguments.action}").run(
        arguments, terminal, environment
    )
    return code
