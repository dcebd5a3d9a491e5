"""copies.py: which of several is asked for a token."""

from __future__ import annotations

import pytest

from aim_engine.runtime.copies import Copy, Watched, to_ask


def idle(moved_at: float, owes_since: float | None = None) -> Watched:
    return Watched(copy=Copy(queue=0.0, marks=()), moved_at=moved_at, owes_since=owes_since)


BUSY = Watched(copy=Copy(queue=1.0, marks=()), moved_at=0.0)


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ({}, None),
        ({"0": BUSY}, None),
        ({"0": BUSY, "1": idle(95)}, None),
        ({"0": BUSY, "1": idle(80)}, "1"),
        ({"0": idle(80), "1": idle(70), "2": idle(99)}, "1"),
        ({"0": idle(70), "1": idle(80, owes_since=98)}, "1"),
        ({"0": idle(70), "1": idle(98, owes_since=99)}, "1"),
    ],
)
def test_it_is_who_owes_an_answer_else_who_was_still_for_longest(known: dict[str, Watched], asked: str | None) -> None:
    assert to_ask(known, 100.0, every_seconds=10.0) == asked
