"""The caution where the most that is assumed would not fit: what is proposed frees what is missing, and is possible."""

from __future__ import annotations

import re
from dataclasses import replace

from aim_engine.selection.candidate import Situation
from aim_engine.selection.remarks import cautions
from tests.building import CARD, GIB, chosen, cpu_here, here, recipe, request, situation, variant


def caution(where: Situation) -> str:
    winner = chosen(where).winner
    assert winner is not None
    found = [one for one in cautions(where, winner.candidate, "", []) if "own needs are assumed" in one]
    return found[0] if found else ""


def on_one(free_gib: int, **flags: str) -> Situation:
    return situation(recipe(variant(1)), on=here("MI300X:1", free={0: free_gib * GIB}), asked=request(**flags))


def test_a_context_that_is_short_enough_is_named_and_is_enough() -> None:
    told = caution(on_one(77))
    found = re.search(r"a context of about ([\d,]+) tokens \(AIM_MAX_MODEL_LEN=(\d+)\) leaves room$", told)
    assert found is not None, told
    assert caution(on_one(77, max_model_len=found[2])) == ""
    longer = str(int(found[2]) + 128)
    assert caution(on_one(77, max_model_len=longer)) != ""


def test_where_no_context_would_free_it_more_gpus_are_named() -> None:
    told = caution(on_one(70, max_model_len="1024"))
    assert told.endswith("; more GPUs (AIM_GPU_COUNT) leave room")


def test_the_longest_that_fits_is_no_less_tight() -> None:
    assert "AIM_MAX_MODEL_LEN=" in caution(on_one(77, max_model_len="auto"))
    assert caution(on_one(170, max_model_len="auto")) == "", "the model's own longest context leaves enough"


def test_a_host_has_no_more_gpus() -> None:
    small = replace(CARD, weights_bytes={"bf16": 8 * GIB})
    family = recipe(variant(1), recipe_id="cpu", model_id="*", huggingface_id="*", gpu_type="CPU")
    where = situation(family, card=small, on=cpu_here(64 * GIB, 15 * GIB), asked=request(max_model_len="1024"))
    book = chosen(where).winner.candidate.ledger  # type: ignore[union-attr]
    assert book is not None
    free = round((book.total_bytes + book.high_bytes) / 2 * (book.budget_bytes and 15 * GIB / book.budget_bytes))
    tight = replace(where, inventory=cpu_here(64 * GIB, free))
    assert caution(tight).endswith("; more memory leaves room")
