"""The ledger beside what the engine said when it was last asked (tests/engine asks it anew)."""

from __future__ import annotations

import pytest

from scripts.memory_agrees import PAGE, TOLERANCE, Row, page, recorded

ENGINE, ROWS = recorded()


@pytest.mark.parametrize("row", [row for row in ROWS if row.answered], ids=lambda row: f"{row.name} on {row.width}")
def test_the_ledger_says_what_the_engine_said(row: Row) -> None:
    assert row.predicted == row.answered


def test_what_could_not_be_asked_is_little_and_has_its_reason() -> None:
    unheard = {row.name for row in ROWS if row.unheard}
    assert (
        len(unheard) < len({row.name for row in ROWS}) / 8
    )  # the formats that the CPU's build cannot make are most of them
    assert len({row.name for row in ROWS if row.tiny and row.answered}) >= 15
    assert len({row.name for row in ROWS if not row.tiny and row.answered}) >= 12


def test_weights_are_near_the_engine_s() -> None:
    far = {row.name for row in ROWS if row.weights_off is not None and abs(row.weights_off) > TOLERANCE}
    assert far == set()
    assert sum(row.weights_off is not None for row in ROWS) > 150


def test_the_page_shows_what_was_recorded() -> None:
    assert PAGE.read_text() == page(ROWS, ENGINE)
