"""`aim-engine detect`: what accelerators are here; --json prints an inventory that --hardware FILE reads back."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.terminal import Terminal
from aim_engine.engine import look
from aim_engine.report import inventory_text
from aim_engine.request import read_request


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("detect", help="what accelerators are here", description=__doc__)
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    parser.add_argument(
        "--hardware",
        metavar="WHAT",
        help="show this instead: MI300X:8, cpu, a file or a recorded host's folder [AIM_HARDWARE]",
    )
    parser.add_argument("--detect-timeout", metavar="SECONDS", help="how long it may take [AIM_DETECT_TIMEOUT]")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    flags = {"hardware": arguments.hardware, "detect_timeout": arguments.detect_timeout}
    inventory = look(read_request(flags, environment))
    if arguments.json:
        terminal.result_json(inventory.as_json())
    else:
        terminal.result(inventory_text(inventory, terminal.paint))
    return 0
