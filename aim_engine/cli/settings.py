"""`aim-engine settings`: every setting, its variable, flag, default and legal values, as a Markdown table."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.terminal import Terminal
from aim_engine.request import SETTINGS, settings_table


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("settings", help="every setting and its meaning", description=__doc__)
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    if arguments.json:
        terminal.result_json(
            [
                {"variable": s.variable, "aliases": s.aliases, "flag": None if s.secret else s.flag,
                 "default": s.default, "legal": s.legal, "meaning": s.meaning, "file_variable": s.file_variable}
                for s in SETTINGS
            ]
        )  # fmt: skip
    else:
        terminal.result(settings_table())
    return 0
