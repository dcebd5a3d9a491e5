"""What would make a model fit: applied it does, and one step less does not, whatever the model and the GPUs."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.backends import vllm
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.terms import ServingTerms
from aim_engine.errors import DoesNotFitError
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import all_products, product_by_name
from aim_engine.selection.candidate import Situation
from aim_engine.selection.changes import Change
from aim_engine.selection.select import Selection, select
from tests.building import CARD, GIB, MODEL, QWEN, examples, here, recipe, request, situation, variant


def outcome(where: Situation) -> Selection:
    def terms(one: Any, gpu: Gpu) -> ServingTerms:
        return vllm.read_terms(one.args, where.request.engine_args, gpu, where.engine)

    return select(where, terms, derive=vllm.derive)


def changes_of(where: Situation) -> dict[str, Change]:
    return {change.kind: change for change in outcome(where).changes}


def derived(card: ModelCard, on: str, **flags: str) -> Situation:
    made = vllm.derive(card, MODEL, product_by_name(on.partition(":")[0]))
    assert made is not None
    return situation(made, asked=request(**flags), on=here(on), card=card)


def test_what_would_help_with_one_model() -> None:
    found = changes_of(derived(CARD, "MI210:1"))
    assert {kind: change.setting for kind, change in found.items()} == {"gpus": "MI210:2", "product": "MI300A:1"}
    long = changes_of(derived(CARD, "MI210:2", max_model_len="40960", concurrency="9"))
    assert {"gpus", "context", "concurrency", "product"} == long.keys()
    assert long["concurrency"].changed.request.concurrency == 4


def test_more_of_the_gpus_that_are_here_come_first() -> None:
    found = changes_of(derived(CARD, "MI210:4", gpu_count="1"))
    assert (found["gpus"].setting, found["gpus"].sentence) == ("AIM_GPU_COUNT=2", "2 GPUs (AIM_GPU_COUNT=2)")


def test_a_lower_precision_is_a_recipe_that_there_is() -> None:
    eight = recipe(variant(1), recipe_id="eight", precision="fp8")
    small = situation(
        recipe(variant(1)), eight, asked=request(precision="bf16"), on=here("MI300X:1", free={0: 60 * GIB})
    )
    assert changes_of(small)["precision"].setting == "AIM_PRECISION=fp8"
    pinned = replace(small, request=request(recipe="plain"))
    assert changes_of(pinned)["precision"].setting == "AIM_RECIPE=eight"


def test_a_lower_precision_may_be_a_checkpoint_that_the_card_names() -> None:
    card = replace(CARD, checkpoints={"fp8": "Qwen/Qwen3-32B-FP8"})
    small = situation(recipe(variant(1)), on=here("MI300X:1", free={0: 60 * GIB}), card=card)
    found = changes_of(small)["precision"]
    assert found.sentence == "a lower precision (AIM_PRECISION=fp8, which is Qwen/Qwen3-32B-FP8)"
    assert outcome(found.changed).winner is not None
    pinned = changes_of(replace(small, request=request(recipe="plain")))["precision"]
    assert "(AIM_PRECISION=fp8 without AIM_RECIPE, which is" in pinned.sentence
    old = situation(recipe(variant(1), gpu_type="MI210"), on=here("MI210:1"), card=card)
    assert "precision" not in changes_of(old), "that GPU has no fp8"


def test_another_gpu_is_one_that_holds_the_same_context() -> None:
    """For a recipe that is made takes what fits: a GPU no larger than the one here would do, with less of it."""
    where = situation(recipe(variant(2), gpu_type="MI210"), asked=request(concurrency="9"), on=here("MI210:2"))
    product = changes_of(where)["product"]
    book = next(one for one in outcome(where).judged if one.candidate.ledger).candidate.ledger
    assert book is not None
    assert product.changed.request.max_model_len == book.context_tokens
    assert product.setting != "MI250:2"


def test_what_is_not_about_memory_has_no_changes() -> None:
    assert outcome(derived(CARD, "MI300X:1", gpu_count="2")).changes == ()
    assert outcome(derived(CARD, "MI300X:1", min_evidence="served")).changes == ()
    assert outcome(derived(CARD, "MI300X:1")).changes == ()  # it fits


SHAPES = st.builds(
    Architecture,
    layers=st.integers(1, 128), hidden_size=st.sampled_from([512, 4096, 8192, 16384]),
    attention_heads=st.sampled_from([8, 24, 64, 128]), kv_heads=st.sampled_from([1, 2, 8]),
    head_dim=st.sampled_from([64, 128]), vocab_size=st.just(151936),
    intermediate_size=st.sampled_from([1024, 25600, 53248]),
    max_context=st.sampled_from([2048, 32768, 131072, 1_048_576]),
)  # fmt: skip
CARDS = st.builds(
    lambda shape, gibs: replace(CARD, architecture=shape, weights_bytes={"bf16": int(gibs * GIB)}),
    SHAPES, st.floats(0.1, 2000),
)  # fmt: skip
PRODUCTS = st.sampled_from([product for product in all_products() if product.vendor == "amd"])
SITUATIONS = st.builds(
    lambda card, product, count, length, at_once: derived(
        card, f"{product.name}:{min(count, product.max_per_node)}",
        **({"max_model_len": str(min(length, card.architecture.max_context))} if length else {}),
        concurrency=str(at_once),
    ),
    CARDS, PRODUCTS, st.integers(1, 8), st.sampled_from([0, 0, 1000, 30000, 1_000_000]),
    st.sampled_from([1, 1, 7, 300]),
)  # fmt: skip


def fits(where: Situation, **changes: Any) -> bool:
    return outcome(replace(where, request=replace(where.request, **changes))).winner is not None


@examples(500)
@given(where=SITUATIONS)
def test_each_change_is_enough_and_one_step_less_is_not(where: Situation) -> None:
    found = outcome(where)
    assert bool(found.changes) <= isinstance(found.refusal, DoesNotFitError)
    for change in found.changes:
        assert outcome(change.changed).winner is not None, change
    kinds = {change.kind: change.changed for change in found.changes}
    if longest := kinds.get("context"):
        tokens = longest.request.max_model_len
        assert isinstance(tokens, int)
        assert not fits(where, max_model_len=tokens + 1)
    if busiest := kinds.get("concurrency"):
        assert not fits(where, concurrency=busiest.request.concurrency + 1)
    if more := kinds.get("gpus"):
        fewer = replace(more.inventory, gpus=more.inventory.gpus[:-1])
        assert outcome(replace(where, inventory=fewer)).winner is None


@examples(100)
@given(where=SITUATIONS, seed=st.integers())
def test_the_order_of_the_gpus_and_recipes_never_matters(where: Situation, seed: int) -> None:
    mixed = random.Random(seed)
    gpus = list(where.inventory.gpus)
    recipes = list(where.catalog.recipes)
    mixed.shuffle(gpus)
    mixed.shuffle(recipes)
    other = replace(where, inventory=replace(where.inventory, gpus=tuple(gpus)),
                    catalog=replace(where.catalog, recipes=tuple(recipes)))  # fmt: skip
    assert [one.as_json() for one in outcome(other).changes] == [one.as_json() for one in outcome(where).changes]


@pytest.mark.parametrize("free", [8, 40])
def test_gpus_that_others_hold(free: int) -> None:
    held = here("MI300X:2", free={0: free * GIB, 1: free * GIB})
    found = changes_of(situation(recipe(variant(1), variant(2), variant(4)), on=held))
    assert found["gpus"].setting == "MI300X:3" if free == 8 else "gpus" in found
    assert QWEN.max_context
