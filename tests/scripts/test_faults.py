"""The fault matrix is whole: its page is fresh, its rows are known codes, and each is injected by the file it names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.errors import error_classes
from scripts.faults import PAGE, page
from tests.building import ROOT
from tests.faults.fault import Fault
from tests.faults.table import FAULTS, fault, faults_of

CODES = {error.__name__.removesuffix("Error"): {error.code} for error in error_classes()}
CODES |= {"Drained": {0}, "Killed": {130, 143}}  # the ends that are no failures (runtime/ending.py)
CODES |= {"": {137}}  # killed itself, it says nothing more: the code is the kernel's


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == page(FAULTS), "run scripts/faults"


def test_a_row_that_changes_makes_the_page_stale() -> None:
    first, *rest = FAULTS
    assert page([replace(first, attempts=99), *rest]) != PAGE.read_text()


def test_ids_are_unique_and_rows_are_found() -> None:
    assert len({one.id for one in FAULTS}) == len(FAULTS)
    assert fault(FAULTS[0].id) == FAULTS[0]
    assert faults_of(str(ROOT / "tests" / FAULTS[0].test))[0] == FAULTS[0]


@pytest.mark.parametrize("row", FAULTS, ids=lambda row: row.id)
def test_a_row_is_sound_and_its_test_names_it(row: Fault) -> None:
    """A file that lacks the injection of one of its rows fails by itself; one that does not name it asserts nothing."""
    assert row.about
    assert f'"{row.id}"' in (ROOT / "tests" / row.test).read_text()
    if row.code is not None:
        assert row.code in CODES[row.error_class]
        assert (row.says and row.remedy) or row.code in (0, 130, 137, 143)
    else:
        assert not row.error_class or row.error_class in CODES
    if row.when == "planning":
        assert (row.attempts, row.gives_up) == (0, ())
        assert row.code is not None
