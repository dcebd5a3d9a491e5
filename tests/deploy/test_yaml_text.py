"""Values → YAML with comments: whatever is in a text, it arrives, and a comment stays one."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.deploy.yaml_text import Block, Note, comment_lines, without_notes, yaml_text
from tests.building import examples


def test_a_note_is_a_comment_above_the_next_key() -> None:
    text = yaml_text({"a": {Note("why b"): None, "b": [1, {"c": "on", Note("why d"): None, "d": None}]}})
    assert text == 'a:\n  # why b\n  b:\n    - 1\n    - c: "on"\n      # why d\n      d: null'


def test_a_long_note_is_broken_and_indented() -> None:
    lines = yaml_text({"a": {Note("word " * 60): None, "b": 1}}).splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert [line[:4] for line in lines] == ["a:", "  # ", "  # ", "  # ", "  b:"]


def test_a_note_cannot_end_its_comment() -> None:
    text = yaml_text({Note("a\nb: c\u2028d: e\x1b[2J"): None, "f": 1})
    assert yaml.safe_load(text) == {"f": 1}
    assert "\x1b" not in text


def test_a_text_that_looks_like_a_note_stays_a_text() -> None:
    spoof = Block("note0: null\nnotee1: null\n")
    document = {Note("a comment"): None, "file": spoof, "note0": None, "x": "note"}
    assert yaml.safe_load(yaml_text(document)) == without_notes(document)
    assert "# a comment" in yaml_text(document)


@examples(200)
@given(st.dictionaries(st.text(), st.text() | st.none() | st.booleans() | st.lists(st.text()), max_size=4), st.text())
def test_any_values_arrive_as_they_are(document: dict[str, object], note: str) -> None:
    noted = {"map": {Note(note): None, **document, "last": 1}}
    wanted = {"map": {**document, "last": 1}}
    assert yaml.safe_load(yaml_text(noted)) == wanted
    assert without_notes(noted) == wanted


def test_comment_lines() -> None:
    assert comment_lines(["a", "", "  b"], "  ") == ["  # a", "  #", "  #   b"]
