"""What is here now, for the evidence of a failure: nothing in, an inventory's JSON on stdout, or `{"error": ...}`.

A program of its own: it loads the vendor's library, which a wedged driver may keep for ever, and is then killed.
"""

from __future__ import annotations

import json
import os
import sys

from aim_engine.errors import AimError
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Surroundings

_SECONDS = 4.0


def main(arguments: list[str]) -> int:
    """Look, and say it."""
    del arguments
    try:
        found = detect("detect", Surroundings(environment=dict(os.environ), timeout_seconds=_SECONDS)).as_json()
    except AimError as error:
        found = {"error": error.as_json()}
    json.dump(found, sys.stdout, default=str)
    return 0
