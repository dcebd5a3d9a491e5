"""GPUs that are parts of one, GPUs of several kinds, and the user's own choice of GPUs: what is placed where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.errors import DoesNotFitError, InputError, NoRecipeError
from aim_engine.hardware.inventory import Inventory
from aim_engine.selection.select import Selection
from tests.building import CARD, GIB, chosen, here, recipe, request, shape_of, situation, variant

MI300X = here("MI300X:1").gpus[0]
SMALL = replace(CARD, weights_bytes={"bf16": 6 * GIB})


def cut(packages: int, *, shared: bool = False, free: int | None = None) -> Inventory:
    """So many MI300X in CPX: eight partitions each, with 24 GiB of their own or sharing 192 GiB."""
    size = 192 * GIB if shared else 24 * GIB
    return Inventory(source="amdsmi", gpus=tuple(
        replace(MI300X, index=8 * package + place, memory_bytes=size, memory_free_bytes=free,
                partition="CPX/NPS1" if shared else "CPX/NPS4", partition_id=place, package=f"0000:0{package}:00",
                memory_pool=f"0000:0{package}:00" if shared else None)
        for package in range(packages) for place in range(8)
    ))  # fmt: skip


def used(selection: Selection) -> list[int]:
    assert selection.winner is not None, selection.refusal
    return [gpu.index for gpu in selection.winner.candidate.gpus]


def budget(selection: Selection) -> tuple[float | None, int]:
    """(the share the engine is told, what the ledger reckons with)."""
    assert selection.winner is not None, selection.refusal
    book = selection.winner.candidate.ledger
    assert book is not None
    return selection.winner.candidate.memory_fraction, book.budget_bytes


# --- partitions with a memory of their own -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "replicas"), [({}, 1), ({"gpu_count": "8"}, 8), ({"gpu_count": "3"}, 3), ({"metric": "throughput"}, 16)]
)
def test_partitions_get_copies_of_the_one_gpu_variant(flags: dict[str, str], replicas: int) -> None:
    done = chosen(situation(on=cut(2), card=SMALL, asked=request(**flags)))
    assert shape_of(done) == ("plain", 1, replicas)
    assert budget(done) == (None, int(24 * GIB * 0.92))


def test_a_recipe_without_a_one_gpu_variant_is_refused_with_both_remedies() -> None:
    refusal = chosen(situation(recipe(variant(8)), on=cut(1), card=SMALL)).refusal
    assert isinstance(refusal, NoRecipeError)
    assert "over 8 partitions (CPX/NPS4)" in refusal.message
    assert "sudo" not in refusal.message  # the remedy is said once, not with every candidate
    assert "AIM_METRIC=throughput" in refusal.hint
    assert "sudo amd-smi set --compute-partition SPX" in refusal.hint


def test_the_remedy_is_the_same_where_memory_lacks_as_well() -> None:
    refusal = chosen(situation(recipe(variant(2)), on=cut(1))).refusal
    assert isinstance(refusal, NoRecipeError)
    assert "sudo amd-smi set --compute-partition SPX" in refusal.hint


def test_a_model_too_large_for_a_partition_is_told_of_whole_gpus() -> None:
    refusal = chosen(situation(on=cut(1))).refusal
    assert isinstance(refusal, DoesNotFitError)
    first, then = "sudo amd-smi set --memory-partition NPS1", "sudo amd-smi set --compute-partition SPX"
    assert 0 < refusal.hint.index("whole GPUs (on the host") < refusal.hint.index(first) < refusal.hint.index(then)
    assert "more GPUs" not in refusal.hint


def test_the_partition_with_the_most_room_is_taken() -> None:
    gpus = tuple(replace(gpu, memory_free_bytes=(23 if gpu.index == 5 else 12) * GIB) for gpu in cut(1).gpus)
    assert used(chosen(situation(on=Inventory(source="amdsmi", gpus=gpus), card=SMALL))) == [5]


def test_evidence_is_said_to_be_for_the_whole_gpu() -> None:
    note, _ = chosen(situation(on=cut(1), card=SMALL)).notes
    assert note.startswith("the recipe's evidence is for a whole MI300X; these are parts of it (CPX/NPS4)")


def test_one_copy_on_one_of_many_partitions_says_what_to_change() -> None:
    notes = chosen(situation(on=cut(8), card=SMALL)).notes
    assert notes[-1] == ("latency takes one copy of the model, on one partition of 64: AIM_METRIC=throughput puts a "
                         "copy on each, and whole GPUs (SPX) serve larger models and a single copy faster")  # fmt: skip
    for flags in ({"metric": "throughput"}, {"gpu_count": "1"}):
        assert not any("AIM_METRIC" in one for one in chosen(
            situation(on=cut(8), card=SMALL, asked=request(**flags))).notes)  # fmt: skip


# --- partitions that share a memory ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packages", "count", "fraction", "share"),
    [
        (1, 1, None, 0.92),  # alone in the memory
        (2, 2, None, 0.92),  # one in each of two
        (1, 2, 0.46, 0.46),
        (1, 4, 0.23, 0.23),
        (2, 8, 0.23, 0.23),
        (2, 3, 0.46, 0.46),  # two in one memory, one in the other: one engine, one share
        (1, 8, 0.11, 0.11),
    ],
)
def test_a_shared_memory_is_divided_by_those_that_use_it(
    packages: int, count: int, fraction: float | None, share: float
) -> None:
    where = situation(on=cut(packages, shared=True), card=SMALL, asked=request(gpu_count=str(count)))
    assert budget(chosen(where)) == (fraction, int(192 * GIB * share))


def test_what_others_hold_of_a_shared_memory_is_nobodys() -> None:
    """Of 192 GiB half is free: 49 % with one to spare, by two."""
    where = situation(on=cut(1, shared=True, free=96 * GIB), card=SMALL, asked=request(gpu_count="2"))
    assert budget(chosen(where)) == (0.24, int(192 * GIB * 0.24))


@pytest.mark.parametrize(("weights", "replicas"), [(6, 16), (20, 12), (40, 6), (70, 4), (100, 2)])
def test_throughput_takes_as_many_copies_as_a_shared_memory_holds(weights: int, replicas: int) -> None:
    card = replace(CARD, weights_bytes={"bf16": weights * GIB})
    one = recipe(variant(1, args={"max-model-len": 4096}))
    where = situation(one, on=cut(2, shared=True), card=card, asked=request(metric="throughput"))
    selection = chosen(where)
    assert selection.winner is not None, selection.refusal
    assert selection.winner.candidate.replicas == replicas
    for pool in ("0000:00:00", "0000:01:00"):
        members = sum(gpu.memory_pool == pool for gpu in selection.winner.candidate.gpus)
        assert members * budget(selection)[1] <= 192 * GIB
    fewer = [one.passed_over for one in selection.judged if one.passed and one is not selection.winner]
    assert set(fewer) <= {"the chosen one has more replicas"}


def test_an_exact_count_that_a_shared_memory_cannot_hold() -> None:
    where = situation(recipe(variant(1)), on=cut(1, shared=True), asked=request(gpu_count="8"))
    refusal = chosen(where).refusal
    assert isinstance(refusal, DoesNotFitError)
    assert "fewer of the GPUs that share one memory (AIM_GPU_COUNT)" in refusal.hint


# --- GPUs of several kinds ---------------------------------------------------------------------------------------

LARGE, LITTLE = recipe(recipe_id="large"), recipe(variant(1), variant(2), recipe_id="little", gpu_type="MI210")
MIXED = here("MI210:2,MI300X:4")


def test_recipes_for_the_largest_group_come_first() -> None:
    done = chosen(situation(LITTLE, LARGE, on=MIXED, card=SMALL))
    assert shape_of(done) == ("large", 4, 1)
    assert used(done) == [2, 3, 4, 5]
    assert done.notes == (
        "here are 4 x MI300X and 2 x MI210: the 4 x MI300X, the largest group of equal GPUs, are used",)  # fmt: skip
    lost = {one.candidate.recipe.recipe_id: one.passed_over for one in done.judged}
    assert lost["little"] == "recipes for the largest group of equal GPUs come first"


def test_a_smaller_group_is_used_where_only_it_has_a_recipe_that_fits() -> None:
    done = chosen(situation(LITTLE, on=MIXED, card=SMALL))
    assert shape_of(done) == ("little", 2, 1)
    assert "the 2 x MI210 are used, though they are not the largest group" in done.notes[0]


def test_equal_products_of_different_memory_are_not_mixed() -> None:
    gpus = (*here("MI300X:2").gpus, *(replace(gpu, index=gpu.index + 2, memory_bytes=96 * GIB) for gpu in
                                       here("MI300X:3").gpus))  # fmt: skip
    done = chosen(situation(on=Inventory(source="amdsmi", gpus=gpus), card=SMALL))
    assert used(done) == [2, 3]  # the widest variant for three equal ones


# --- the user's own choice ---------------------------------------------------------------------------------------


def test_the_users_order_comes_before_room() -> None:
    by_user = replace(
        here("MI300X:4", free={0: 90 * GIB, 1: 190 * GIB, 2: 90 * GIB, 3: 90 * GIB}),
        visibility=("HIP_VISIBLE_DEVICES=3,2,1,0",),
    )
    assert used(chosen(situation(on=by_user, asked=request(gpu_count="1")))) == [0]
    assert used(chosen(situation(on=replace(by_user, visibility=()), asked=request(gpu_count="1")))) == [1]


def test_a_choice_whose_first_ones_cannot_serve_is_refused_with_one_that_can() -> None:
    by_user = replace(here("MI210:1,MI300X:2"), visibility=("HIP_VISIBLE_DEVICES=6,2,3",))
    refusal = chosen(situation(on=by_user)).refusal
    assert isinstance(refusal, InputError)
    assert "these come later: set HIP_VISIBLE_DEVICES=2,3" in refusal.message
    forced = chosen(situation(on=by_user, asked=request(recipe="plain", force="1")))
    assert forced.winner is None


def test_hidden_gpus_are_named_where_nothing_is_left() -> None:
    hidden = here("MI300X:2", unusable=dict.fromkeys(range(2), "hidden by HIP_VISIBLE_DEVICES=-1"))
    refusal = chosen(situation(on=hidden)).refusal
    assert refusal is not None
    assert refusal.message == "no usable accelerator (hidden by HIP_VISIBLE_DEVICES=-1)"


# --- checkpoints that no AMD GPU computes in ---------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_an_nvfp4_checkpoint_is_refused_with_the_reason_whether_or_not_there_is_a_recipe(known: bool) -> None:
    card = replace(CARD, precision="fp4", quantization="nvfp4")
    where = situation(card=card)
    if not known:
        where = replace(where, catalog=replace(where.catalog, recipes=()))
    refusal = chosen(where).refusal
    assert isinstance(refusal, NoRecipeError)
    assert "NVFP4, NVIDIA's own format, which no AMD GPU computes in" in refusal.message
    assert refusal.hint == "take another checkpoint of the model: MXFP4, fp8 or bf16"
    assert chosen(replace(where, request=request(recipe="plain", force="1"))).winner is None
