"""Recipes that were made of a model's numbers: the fewest GPUs that hold it, the longest context that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.backends.vllm import derive
from aim_engine.catalog.model_card import ModelCard
from aim_engine.errors import DoesNotFitError, NoRecipeError
from aim_engine.hardware.products import product_by_name
from aim_engine.selection.candidate import Situation
from tests.building import CARD, MODEL, QWEN, chosen, here, recipe, request, shape_of, situation


def made(on: str, card: ModelCard = CARD, **flags: str) -> Situation:
    found = derive(card, MODEL, product_by_name(on.partition(":")[0]))
    assert found is not None
    return situation(found, recipe(), asked=request(**flags), on=here(on), card=card)


def context_of(where: Situation) -> int:
    winner = chosen(where).winner
    assert winner is not None
    assert winner.candidate.ledger is not None
    return winner.candidate.ledger.context_tokens


@pytest.mark.parametrize(
    ("on", "tensor_parallel"),
    [("MI355X:8", 1), ("MI325X:1", 1), ("MI210:8", 2), ("MI250X:4", 2), ("RX 7900 XTX:4", 4), ("R9700:8", 4)],
)
def test_the_fewest_gpus_that_hold_it(on: str, tensor_parallel: int) -> None:
    where = made(on)
    name = where.inventory.gpus[0].product.lower().replace(" ", "-")
    assert shape_of(chosen(where)) == (f"derived-{name}-bf16", tensor_parallel, 1)


def test_a_count_that_was_asked_for_is_kept() -> None:
    assert shape_of(chosen(made("MI210:8", gpu_count="8")))[1] == 8
    selection = chosen(made("MI210:8", gpu_count="3"))
    assert isinstance(selection.refusal, DoesNotFitError)  # three copies, and none of them fits on one


def test_throughput_puts_a_copy_on_each_pair() -> None:
    assert shape_of(chosen(made("MI210:8", metric="throughput")))[1:] == (2, 4)


def test_the_context_is_the_model_s_own_where_that_fits() -> None:
    assert context_of(made("MI355X:1")) == QWEN.max_context
    assert context_of(made("MI355X:1", max_model_len="1000")) == 1000


def test_else_the_longest_that_fits() -> None:
    """A model with a million tokens of context: 256 KiB a token are more than the rest of the GPU."""
    long = replace(CARD, architecture=replace(QWEN, max_context=1_048_576))
    where = made("MI355X:1", long)
    assert 8192 < context_of(where) < 1_048_576
    winner = chosen(where).winner
    assert winner is not None
    book = winner.candidate.ledger
    assert book is not None
    assert book.budget_bytes - book.total_bytes < 16 * book.kv_bytes_per_token


def test_more_gpus_rather_than_less_than_8192_tokens() -> None:
    """61 GiB of weights on a GPU that leaves less than 2 GiB for 8,192 tokens: two GPUs."""
    tight = replace(CARD, weights_bytes={"bf16": 53 * 1024**3})
    assert shape_of(chosen(made("MI210:2", tight)))[1] == 2
    selection = chosen(made("MI210:1", tight))
    assert isinstance(selection.refusal, DoesNotFitError)
    assert "8,192 tokens" in selection.refusal.message


def test_recipes_in_files_come_first_and_those_for_any_model_last() -> None:
    derived = derive(CARD, MODEL, product_by_name("MI300X"))
    assert derived is not None
    family = recipe(recipe_id="any", model_id="*", huggingface_id="*")
    assert shape_of(chosen(situation(family, derived, recipe())))[0] == "plain"
    assert shape_of(chosen(situation(family, derived)))[0] == "derived-mi300x-bf16"


def test_evidence_can_be_asked_for() -> None:
    selection = chosen(made("MI355X:1", min_evidence="reported"))
    assert isinstance(selection.refusal, NoRecipeError)


def test_fp8_only_where_it_is_computed_in() -> None:
    fp8 = replace(CARD, precision="fp8")
    assert shape_of(chosen(made("MI355X:1", fp8)))[0] == "derived-mi355x-fp8"
    selection = chosen(made("MI210:8", fp8))
    assert selection.refusal is not None
    assert "the checkpoint is fp8, in which MI210 does not compute" in selection.refusal.message
