"""The matrix of real starts: what its cases are, what counts as wrong, and what was found when it was last run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.plan import Plan, Refusal
from aim_engine.selection.kv_cache import Capacity
from scripts.bench_matrix import Outcome, holds, results
from scripts.memory_agrees import MODELS
from scripts.memory_starts import starts_kept
from scripts.start_cases import NOT_ON_A_CPU, Case, Place, case_of, lengthened, pool_of
from tests.building import safetensors

CONFIGS = {model["name"]: lengthened(model["config"]) for model in json.loads(MODELS.read_text()) if model["tiny"]}
SOME = ("Llama", "Gemma 3", "DeepSeek V3", "Jamba", "Mamba 2", "Llama 4", "gpt-oss")
NUMBERS = range(120)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    made = {}
    for name in SOME:
        folder = tmp_path_factory.mktemp("model")
        (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
        tensors = {"model.embed_tokens.weight": ("BF16", (320, 128), 2)}
        (folder / "model.safetensors").write_bytes(safetensors(tensors))
        made[name] = Place(folder=folder, cache=folder / "cache")
    return made


@pytest.fixture(scope="module")
def cases(places: dict[str, Place]) -> list[Case]:
    return [case_of(number, SOME, places) for number in NUMBERS]


# --- the cases -------------------------------------------------------------------------------------------------------


def test_a_case_is_always_the_same(cases: list[Case], places: dict[str, Place]) -> None:
    for number in (0, 57, 119):
        assert case_of(number, tuple(reversed(SOME)), places) == cases[number]


def test_every_model_has_its_turn(cases: list[Case]) -> None:
    counts = {name: sum(case.model == name for case in cases) for name in SOME}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_most_cases_are_at_the_edge(cases: list[Case], places: dict[str, Place]) -> None:
    """One block less than the room, and the plan is refused, or is of another context."""
    at_the_edge = [case for case in cases if case.kind != "roomy"]
    assert len(at_the_edge) > len(cases) * 0.8
    for case in at_the_edge:
        pool, _ = pool_of(places[case.model], case.options)
        context = case.context or pool.longest(case.room_bytes, case.concurrency, 10**6)
        slack = case.room_bytes - pool.bytes_for(context, case.concurrency)
        assert -pool.block_bytes <= slack < pool.block_bytes or case.model == "Mamba 2"


def test_the_plan_has_just_the_room(cases: list[Case], places: dict[str, Place]) -> None:
    for case in cases:
        plan = places[case.model].in_room(case)
        if case.kind == "short":
            assert isinstance(plan, Refusal), case
            assert plan.error.__class__.__name__ == "DoesNotFitError"
            continue
        assert isinstance(plan, Plan), case
        assert plan.ledger is not None
        others = plan.ledger.total_bytes - plan.ledger.kv_bytes
        assert plan.ledger.budget_bytes - others == case.room_bytes
        context, limit = plan.ledger.context_tokens, pool_of(places[case.model], case.options)[1]
        if case.kind == "longest" and context < limit:
            assert isinstance(places[case.model].in_room(replace(case, context=context + 1)), Refusal), case


def test_what_is_left_out_is_little() -> None:
    assert set(NOT_ON_A_CPU) < set(CONFIGS)
    assert len(NOT_ON_A_CPU) < len(CONFIGS) / 10


# --- the verdicts ----------------------------------------------------------------------------------------------------

FITS = {"blocks": 9, "tokens": 512, "concurrency": 2.25}  # four blocks a request
NO = {"refused": "ValueError: To serve at least one request"}
BROKEN = {"error": "NotImplementedError: no kernel"}
CASE = Case(number=0, model="it", kind="exact", context=256, concurrency=2, room_bytes=9)


def outcome(accepted: bool, answer: dict[str, Any], beyond: dict[str, Any] | None = None, **changes: Any) -> Outcome:
    predicted = Capacity(blocks=9, tokens=512, concurrency=2.25)
    return Outcome(case=replace(CASE, **changes), accepted=accepted, predicted=predicted, answer=answer,
                   beyond=beyond or {}, context=256)  # fmt: skip


def words(one: Outcome) -> list[str]:
    return [name for name in ("refused", "overcautious", "differs", "unheard") if getattr(one, name)]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (outcome(True, FITS), []),
        (outcome(True, FITS, concurrency=3), ["refused"]),
        (outcome(True, NO), ["refused"]),
        (outcome(True, {**FITS, "tokens": 511}), ["differs"]),
        (outcome(True, FITS, NO), []),
        (outcome(True, FITS, FITS), ["overcautious"]),
        (outcome(True, BROKEN), ["unheard"]),
        (outcome(True, FITS, BROKEN), ["unheard"]),
        (outcome(False, NO), []),
        (outcome(False, FITS, concurrency=3), []),
        (outcome(False, FITS), ["overcautious"]),
        (outcome(False, BROKEN), ["unheard"]),
    ],
)
def test_a_verdict(one: Outcome, expected: list[str]) -> None:
    assert words(one) == expected
    assert one.wrong == bool(expected)
    assert str(one).startswith(", ".join(expected) or "agrees")


@pytest.mark.parametrize(("blocks", "requests", "fits"), [(9, 2, True), (8, 2, False), (9, 1, True), (0, 1, False)])
def test_the_null_block_holds_no_request(blocks: int, requests: int, fits: bool) -> None:
    assert holds({"blocks": blocks, "concurrency": blocks / 4}, requests) == fits


def test_the_numbers_of_the_matrix() -> None:
    found = [outcome(True, FITS), outcome(True, NO), outcome(False, FITS), outcome(False, NO), outcome(True, BROKEN)]
    values = {one.name.split()[0]: (one.value, one.runs, one.verdict) for one in results(found, [1.0, 2.0])}
    assert values == {"plans": (1, 2, "missed"), "refusals": (50.0, 2, "missed"), "KV": (0, 2, "ok"),
                      "engines": (1, 5, "missed"), "time": (1.5, 2, "–")}  # fmt: skip


# --- what was found --------------------------------------------------------------------------------------------------


def test_the_matrix_that_was_kept_is_large_and_agrees() -> None:
    kept = starts_kept()
    assert kept["cases"] >= 100
    assert kept["starts"] >= 100
    assert kept["at_the_edge"] > kept["cases"] / 2
    assert len(kept["rows"]) >= 15
    assert len(kept["rows"]) == len(CONFIGS) - len(NOT_ON_A_CPU)
    assert sum(row["accepted"] + row["refused"] for row in kept["rows"]) == kept["cases"]
    assert [one["name"] for one in kept["results"] if one["value"] > one["goal"]] == []


def test_its_file_is_where_the_page_finds_it() -> None:
    page = (Path(__file__).parents[2] / "docs/memory.md").read_text()
    assert f"{starts_kept()['starts']} times" in page
