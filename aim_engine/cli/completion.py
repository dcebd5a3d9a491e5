"""`aim-engine completion SHELL`: prints a completion script, made from the parser itself."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.terminal import Terminal

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

    terminal.result(shtab.complete(build_parser(), shell=arguments.shell))
    return 0
