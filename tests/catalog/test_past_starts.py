"""past_starts.py: how long the last start took, of the same occasion and without the same things. The files' own rules
(shared, read-only, full) are those of remembered.py, which has the same shelf.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aim_engine.catalog.measurement import Occasion
from aim_engine.catalog.past_starts import PastStart, keep_start, recall_start

OCCASION = Occasion(engine="vllm 0.18.1", checkpoint="org/x", revision="", devices="1 x CPU", terms=("eager True",))
START = PastStart(occasion=OCCASION, given_up=(), seconds={"resolve": 7.5, "load": 1}, date="2026-10-10T12:00:00Z")


def test_the_last_start_of_the_same_is_recalled(tmp_path: Path) -> None:
    keep_start(tmp_path, START)
    newer = replace(START, seconds={"resolve": 8.0}, date="2026-10-11T12:00:00Z")
    path = keep_start(tmp_path, newer)
    assert recall_start(tmp_path, OCCASION, []) == (newer, ())
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("changed", [{"engine": "vllm 0.19"}, {"revision": "a"}, {"devices": "2 x CPU"}, {"terms": ()}])
def test_another_occasion_knows_nothing(tmp_path: Path, changed: dict[str, object]) -> None:
    keep_start(tmp_path, START)
    assert recall_start(tmp_path, replace(OCCASION, **changed), []) == (None, ())  # type: ignore[arg-type]


def test_a_start_that_did_without_something_is_another(tmp_path: Path) -> None:
    slower = replace(START, given_up=("eager",), seconds={"resolve": 9.0})
    keep_start(tmp_path, START)
    keep_start(tmp_path, slower)
    assert recall_start(tmp_path, OCCASION, [])[0] == START
    assert recall_start(tmp_path, OCCASION, ["eager"])[0] == slower
    assert recall_start(tmp_path, OCCASION, ["context"])[0] is None


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2}, {"seconds": {}}, {"seconds": {"load": -1}}, {"seconds": {"load": "1"}},
        {"seconds": {"load": True}}, {"seconds": {"load": float("nan")}}, {"seconds": 5}, {"given_up": "x"},
        {"given_up": [5]}, {"date": 5},
        {"date": "\x1b"}, {"occasion": None},
    ],
)  # fmt: skip
def test_a_damaged_file_is_a_note_and_otherwise_not_there(tmp_path: Path, changed: dict[str, object]) -> None:
    path = keep_start(tmp_path, START)
    path.write_text(json.dumps({**START.as_json(), **changed}))
    found, notes = recall_start(tmp_path, OCCASION, [])
    assert found is None
    assert len(notes) == 1
    assert notes[0].startswith(f"{path}, which tells how long a start took, cannot be read (")
    keep_start(tmp_path, START)
    assert recall_start(tmp_path, OCCASION, []) == (START, ())
