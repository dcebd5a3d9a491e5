"""measurement.py: which figures count for which occasion, and what is not taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aim_engine.catalog.measurement import Measurement, Occasion, read_measurement, recalled

OCCASION = Occasion(
    engine="vllm 0.18.1", checkpoint="org/x", revision="abc", devices="8 x MI300X", terms=("eager True",)
)
FOUND = Measurement(occasion=OCCASION, lines={"activations": 5, "graphs": 0}, date="2026-10-10T12:00:00Z")


def test_what_was_given_up_needs_no_lines() -> None:
    kept = replace(FOUND, lines={}, given_up=("context", "eager"))
    assert read_measurement(json.loads(json.dumps(kept.as_json()))) == kept
    for wrong in ([1], "context", {"context": 1}):
        with pytest.raises(ValueError, match="not a list of texts"):
            read_measurement({**kept.as_json(), "given_up": wrong})
    with pytest.raises(ValueError, match="no lines"):
        read_measurement({**kept.as_json(), "given_up": []})


def test_it_reads_back_equal() -> None:
    assert read_measurement(FOUND.as_json()) == FOUND


@pytest.mark.parametrize(
    "change",
    [{"engine": "vllm 0.18.0"}, {"checkpoint": "org/y"}, {"revision": ""}, {"devices": "4 x MI300X"},
     {"terms": ("eager False",)}],
)  # fmt: skip
def test_it_counts_for_the_same_of_everything_only(change: dict[str, Any]) -> None:
    assert recalled([FOUND], OCCASION) is FOUND
    assert recalled([FOUND], replace(OCCASION, **change)) is None


def test_the_newest_counts() -> None:
    newer = replace(FOUND, date="2026-11-01T00:00:00Z")
    assert recalled([newer, FOUND], OCCASION) is newer is recalled([FOUND, newer], OCCASION)


def test_where_the_engine_is_not_known_the_last_one_s_figures_count() -> None:
    other = replace(FOUND, occasion=replace(OCCASION, engine="vllm 0.19.0"), date="2026-11-01T00:00:00Z")
    assert recalled([FOUND, other], replace(OCCASION, engine="")) is other
    assert recalled([FOUND, other], replace(OCCASION, engine="", revision="def")) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 2), ("format", None), ("lines", {}), ("lines", {"a": -1}), ("lines", {"a": True}),
     ("lines", {"a": 1.5}), ("lines", {"a": 1 << 60}), ("lines", {"a\x1b[2J": 1}), ("lines", []), ("date", 3),
     ("date", "a\nb"), ("occasion", []),
     ("occasion", {"engine": "x"}), ("occasion", {**OCCASION.as_json(), "terms": "eager"}),
     ("occasion", {**OCCASION.as_json(), "terms": [1]})],
)  # fmt: skip
def test_what_is_none_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_measurement({**FOUND.as_json(), key: value})


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_not_even_an_object_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="format"):
        read_measurement(value)
