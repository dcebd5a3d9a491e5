"""Evidence against the engine that is here: what stands, what drops to what, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.catalog.evidence import Acceptance, Evidence
from aim_engine.selection.standing import as_it_stands, standing
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


# --- what an engine's own parser accepted -----------------------------------------------------------------------------

BY_ROCMS = Acceptance(engine="vllm 0.18.1+rocm700", date="2026-11-22")
BY_ANOTHER = Acceptance(engine="vllm 0.32.0", date="2026-11-23")
ENGINE = {"vllm 0.18.1": ROCM, "unknown": replace(ROCM, version=None), "none": None}


@pytest.mark.parametrize(
    ("level", "of", "here", "counts"),
    [
        ("derived", "", "vllm 0.18.1", "parsed"),
        ("reported", "vllm 0.16.0", "vllm 0.18.1", "parsed"),
        ("served", "vllm 0.16.0", "vllm 0.18.1", "parsed"),  # which is a mere report there
        ("served", "vllm 0.18.0", "vllm 0.18.1", "served"),
        ("measured", "vllm 0.18.0", "vllm 0.18.1", "measured"),
        ("reported", "vllm 0.18.0", "unknown", "reported"),
        ("derived", "", "none", "parsed"),
        ("served", "vllm 0.16.0", "none", "served"),
    ],
)
def test_what_the_parser_of_this_version_took_is_parsed(level: str, of: str, here: str, counts: str) -> None:
    evidence = Evidence(level=level, engine=of, accepted=(BY_ROCMS,))
    assert standing(evidence, ENGINE[here]).level == counts
    assert as_it_stands(evidence, ENGINE[here]).level == (counts if counts == "parsed" else level)


def test_it_drops_when_the_engines_version_changes() -> None:
    for level in ("derived", "reported"):
        evidence = Evidence(level=level, source="x", engine="vllm 0.18.0", accepted=(BY_ANOTHER,))
        found = standing(evidence, ROCM)
        assert (found.level, found.accepted) == (level, None)
        assert found.sentence == (
            "the evidence (parsed) is for vllm 0.32.0, and vllm 0.18.1+rocm700 is installed, "
            f"so it counts as {level} here"
        )
        assert as_it_stands(evidence, ROCM) == evidence
        assert standing(replace(evidence, accepted=(BY_ANOTHER, BY_ROCMS)), ROCM).level == "parsed"


def test_what_was_said_before_is_kept() -> None:
    evidence = Evidence(level="reported", source="github.com/x", engine="vllm 0.16.0", date="2025-12-17",
                        accepted=(BY_ROCMS,))  # fmt: skip
    assert as_it_stands(evidence, ROCM).in_words() == (
        "parsed: reported: github.com/x, vllm 0.16.0, 2025-12-17; accepted by vllm 0.18.1+rocm700's own parser, "
        "2026-11-22"
    )
    assert standing(evidence, ROCM).sentence == (
        "the evidence (reported) is for vllm 0.16.0, and vllm 0.18.1+rocm700 is installed, whose own parser accepts "
        "it, so it counts as parsed here"
    )


def test_where_all_is_parsed_what_it_was_before_decides() -> None:
    derived, reported = (
        standing(Evidence(level=level, accepted=(BY_ROCMS,)), ROCM) for level in ("derived", "reported")
    )
    assert derived.rank == reported.rank
    assert standing(Evidence(), ROCM).order < derived.order < reported.order
    assert reported.order < standing(Evidence(level="served", engine="vllm 0.18.1"), ROCM).order
