"""Differences of two recipes: none of a recipe and itself, each of one changed value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.catalog.evidence import Acceptance, Evidence
from aim_engine.catalog.recipe_diff import differences
from tests.building import recipe, variant


def test_ids_and_files_are_no_difference() -> None:
    assert differences(recipe(), recipe(recipe_id="other", file="/elsewhere", order=1)) == []


def test_what_an_engine_accepted_is_no_difference_of_the_recipes() -> None:
    recorded = Evidence(accepted=(Acceptance(engine="vllm 0.32.0", date="2026-11-22"),))
    assert differences(recipe(variant(1)), recipe(variant(1, evidence=recorded), evidence=recorded)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "fp8"}, ("", "precision", "bf16", "fp8")),
        ({"evidence": Evidence(level="served")}, ("", "evidence.level", "derived", "served")),
        ({"variants": (variant(1, enabled=False),)}, ("vllm 1", "enabled", True, False)),
        ({"variants": (variant(1, metric="latency"),)}, ("vllm 1", "metric", None, "latency")),
        ({"variants": (variant(1, env={"A": "1"}),)}, ("vllm 1", "env.A", None, "1")),
        ({"variants": (variant(1, args={"max-model-len": 32768}),)}, ("vllm 1", "args.tensor-parallel-size", 1, None)),
        ({"variants": (variant(1), variant(2))}, ("vllm 2", "", None, "is there")),
    ],
)
def test_one_change_is_one_difference(changes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    first = recipe(variant(1))
    second = replace(first, **changes)
    found = [(one.variant, one.key, one.first, one.second) for one in differences(first, second)]
    assert expected in found
    assert len(found) == 1 or "evidence" in changes  # what the variants have inherited is then their own
    assert [(b, a) for _, _, a, b in found] == [(one.first, one.second) for one in differences(second, first)]
