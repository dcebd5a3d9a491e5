"""`aim-engine detect`: what accelerators are here; --json prints an inventory that --hardware FILE reads back."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.terminal import Terminal
from aim_engine.decide import look
from aim_engine.hardware.inventory import nothing_usable
from aim_engine.report import inventory_text
from aim_engine.request import read_request

_EXIT_CODES = """exit codes: 0 something can be used; 20 nothing that was found can be used (what was seen is printed
all the same), or nothing was found; 10 variables such as HIP_VISIBLE_DEVICES contradict each other or leave no GPU.
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("detect", help="what accelerators are here", description=__doc__, epilog=_EXIT_CODES)
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
    if not inventory.usable_gpus:
        raise nothing_usable(inventory)
    return 0
