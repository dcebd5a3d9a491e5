"""Evidence against the engine that is here: what stands, what drops to what, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.catalog.recipe import Evidence
from aim_engine.selection.standing import standing
from aim_engine.values import EVIDENCE_LEVELS
from tests.building import ROCM


def counts_as(level: str, of: str, version: str | None = "0.18.1+rocm700") -> str:
    return standing(Evidence(level=level, engine=of), replace(ROCM, version=version)).level


@pytest.mark.parametrize("level", EVIDENCE_LEVELS)
def test_it_stands_on_the_same_version_and_where_no_engine_is_known(level: str) -> None:
    for of in ("vllm 0.18.1", "vllm 0.18", "vllm 0.18.9"):
        assert counts_as(level, of) == level
        assert standing(Evidence(level=level, engine=of), ROCM).sentence == ""
    assert standing(Evidence(level=level, engine="vllm 0.9"), None).level == level


@pytest.mark.parametrize("of", ["vllm 0.17.2", "vllm 1.18", "sglang 0.18.1", "vllm", "", "0.18.1"])
def test_it_drops_on_another_version_or_engine(of: str) -> None:
    left = [counts_as(level, of) for level in EVIDENCE_LEVELS]
    assert left == ["derived", "reported", "derived", "reported", "reported"]


def test_an_engine_of_unknown_version_is_another_one() -> None:
    assert counts_as("measured", "vllm 0.18.1", version=None) == "reported"


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (Evidence(level="derived", engine="vllm 0.9"), ""),
        (Evidence(level="reported", engine="vllm 0.16.0"),
         "the evidence (reported) is for vllm 0.16.0, and vllm 0.18.1+rocm700 is installed"),
        (Evidence(level="parsed", engine="vllm"),
         "the evidence (parsed) is for a version that it does not tell, and vllm 0.18.1+rocm700 is installed, so it "
         "counts as derived here"),
    ],
)  # fmt: skip
def test_what_is_said(evidence: Evidence, sentence: str) -> None:
    assert standing(evidence, ROCM).sentence == sentence


def test_the_order_of_the_levels_is_that_of_the_ranks() -> None:
    assert [standing(Evidence(level=level), None).rank for level in EVIDENCE_LEVELS] == list(range(5))
