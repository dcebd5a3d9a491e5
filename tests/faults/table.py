"""The fault matrix: every row, and the rows that a test file has to inject."""

from __future__ import annotations

from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.of_processes import OF_PROCESSES
from tests.faults.of_serving import OF_SERVING
from tests.faults.of_starts import OF_STARTS

FAULTS: tuple[Fault, ...] = (*OF_STARTS, *OF_PROCESSES, *OF_SERVING)
_TESTS = Path(__file__).resolve().parents[1]


def faults_of(file: str) -> list[Fault]:
    """The rows of a test file; say `__file__`."""
    return [fault for fault in FAULTS if fault.test == Path(file).resolve().relative_to(_TESTS).as_posix()]


def fault(name: str) -> Fault:
    """The row of that id."""
    return next(one for one in FAULTS if one.id == name)
