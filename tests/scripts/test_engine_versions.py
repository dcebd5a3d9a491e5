"""The table of what versions of vLLM have: made of what they say, and held against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import engine_versions
from scripts.engine_versions import TABLE, differences, options_of, recorded, spans, write

SAID = {
    "1.0": {"options": ["a", "b", "no-b"], "variables": ["VLLM_X"]},
    "1.1": {"options": ["a", "c"], "variables": []},
    "1.2": {"options": ["a", "c", "help"], "variables": ["VLLM_X"]},
}


def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: dict[str, Any], said: Any) -> str:
    monkeypatch.setattr(engine_versions, "TABLE", tmp_path / "table.json")
    write(table, said)
    return (tmp_path / "table.json").read_text()


def test_a_span_goes_from_the_first_version_to_the_last() -> None:
    said = {version: sorted(options_of(one)) for version, one in SAID.items()}
    assert spans(said) == {"a": ["1.0", "1.2"], "b": ["1.0", "1.0"], "c": ["1.1", "1.2"]}


def test_what_is_written_says_what_the_versions_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = json.loads(written(tmp_path, monkeypatch, {"about": "kept"}, SAID))
    assert table["about"] == "kept"
    assert table["gaps"] == {"1.1": ["VLLM_X"]}
    assert [line for version, one in SAID.items() for line in differences(table, version, one)] == []
    assert recorded(table, "1.0") == {"options": ["a", "b"], "variables": ["VLLM_X"]}
    assert recorded(table, "1.1")["variables"] == []


def test_a_difference_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = json.loads(written(tmp_path, monkeypatch, {}, SAID))
    assert differences(table, "1.2", {"options": ["a", "d"], "variables": ["VLLM_X"]}) == [
        "1.2: options: d is there, and the table does not say so",
        "1.2: options: c is not there, and the table says it is",
    ]


def test_the_shipped_table_is_as_it_would_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TABLE.read_text()
    table = json.loads(text)
    said = {version: recorded(table, version) for version in table["grid"]}
    assert written(tmp_path, monkeypatch, table, said) == text
