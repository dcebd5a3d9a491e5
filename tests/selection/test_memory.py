"""The memory ledger against numbers worked out by hand for Qwen3-32B."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.catalog.architecture import Architecture, Guess
from aim_engine.catalog.layer_cache import TokenCache
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.terms import ServingTerms
from aim_engine.catalog.weights import WeightPart
from aim_engine.selection.memory import Ledger, Line, Load, in_gib, ledger
from tests.building import CARD, GIB, QWEN, examples

TERMS = ServingTerms(
    context_tokens=None,
    memory_fraction=0.9,
    block_tokens=16,
    batch_tokens=8192,
    kv_element_bytes=2,
    eager=False,
    host_memory=False,
)


def book(**changes: Any) -> Ledger:
    load = Load(
        card=CARD,
        precision="bf16",
        tensor_parallel_size=1,
        budget_bytes=172 * GIB,
        context_tokens=32768,
        concurrency=1,
        terms=TERMS,
    )
    found = ledger(replace(load, **changes))
    assert found is not None
    return found


def sizes(found: Ledger) -> dict[str, int]:
    return {line.name: line.bytes for line in found.lines}


def test_one_gpu_by_hand() -> None:
    found = book()
    assert found.kv_bytes_per_token == 2 * 64 * 8 * 128 * 2 == 262_144
    assert sizes(found) == {
        "weights": 65_524_246_528,
        "kv cache": (32768 + 16) * 262_144,  # and vLLM's empty block
        "activations": 8192 * (4 * 5120 + 3 * 25600) * 2,
        "device context": 3 * GIB // 2,
        "graphs": GIB,
    }
    assert found.total_bytes == sum(sizes(found).values())
    assert found.fits


def test_eight_gpus_by_hand() -> None:
    found = book(tensor_parallel_size=8)
    assert found.kv_bytes_per_token == 32_768
    assert sizes(found) == {
        "weights": 8_190_530_816,
        "kv cache": (32768 + 16) * 32_768,
        "activations": 8192 * (4 * 5120 + 3 * 3200) * 2,
        "device context": 3 * GIB // 2,
        "graphs": GIB,
        "collectives": GIB,
    }


def test_what_each_line_rests_on() -> None:
    found = book()
    assert {line.name: line.basis for line in found.lines} == {
        "weights": "computed",
        "kv cache": "computed",
        "activations": "assumed",
        "device context": "assumed",
        "graphs": "assumed",
    }
    exact = book(card=replace(CARD, weights_basis="exact"))
    assert [line.basis for line in exact.lines[:2]] == ["exact", "exact"]
    assert book(precision="int4").lines[0].basis == "assumed"


@pytest.mark.parametrize(("size", "heads"), [(1, 8), (2, 4), (4, 2), (8, 1), (16, 1)])
def test_fewer_kv_heads_than_gpus_are_replicated(size: int, heads: int) -> None:
    assert book(tensor_parallel_size=size).kv_bytes_per_token == 64 * 2 * heads * 128 * 2


def test_a_latent_cache_is_not_divided() -> None:
    card = replace(CARD, architecture=replace(QWEN, kv_lora_rank=512, qk_rope_head_dim=64))
    each = [book(card=card, tensor_parallel_size=size).kv_bytes_per_token for size in (1, 8)]
    assert each == [64 * 576 * 2, 64 * 576 * 2]


def test_an_fp8_cache_is_half_as_large() -> None:
    assert book(terms=replace(TERMS, kv_element_bytes=1)).kv_bytes_per_token == 131_072


def test_a_checkpoint_may_say_so_itself() -> None:
    card = replace(CARD, quantization="modelopt", cache="fp8", precision="fp8")
    terms = replace(TERMS, followed=frozenset({"modelopt"}))
    assert book(card=card, terms=terms, precision="fp8").kv_bytes_per_token == 131_072
    assert book(card=card, terms=terms, precision="bf16").kv_bytes_per_token == 262_144  # another checkpoint's
    assert book(card=card, precision="fp8").kv_bytes_per_token == 262_144
    latent = replace(card, architecture=replace(QWEN, kv_lora_rank=512, qk_rope_head_dim=64))
    assert book(card=latent, terms=terms, precision="fp8").kv_bytes_per_token == 64 * 576 * 2


def test_contexts_are_held_in_whole_blocks() -> None:
    assert book(context_tokens=1).kv_bytes == 2 * 16 * 262_144
    assert book(context_tokens=16).kv_bytes == 2 * 16 * 262_144
    assert book(context_tokens=17).kv_bytes == 3 * 16 * 262_144
    assert book(context_tokens=17, concurrency=10).kv_bytes == 21 * 16 * 262_144


def test_eager_captures_no_graphs() -> None:
    assert "graphs" not in sizes(book(terms=replace(TERMS, eager=True)))


def test_the_hosts_own_memory_has_overheads_of_its_own() -> None:
    names = set(sizes(book(terms=replace(TERMS, host_memory=True))))
    assert names == {"weights", "kv cache", "activations", "processes"}


def test_what_is_missing_is_told_to_the_byte() -> None:
    total = book().total_bytes
    assert book(budget_bytes=total).fits
    short = book(budget_bytes=total - 1)
    assert (short.fits, short.missing_bytes) == (False, 1)


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_auto_is_the_longest_context_that_fits(concurrency: int) -> None:
    budget = 72 * GIB
    found = book(context_tokens=None, budget_bytes=budget, concurrency=concurrency)
    longer = found.context_tokens + 16
    assert found.fits
    assert not book(context_tokens=longer, budget_bytes=budget, concurrency=concurrency).fits


def test_auto_ends_at_the_models_own_limit() -> None:
    assert book(context_tokens=None).context_tokens == 40960


def test_auto_where_nothing_fits_says_by_how_much_one_block_does_not() -> None:
    found = book(context_tokens=None, budget_bytes=GIB)
    assert found.context_tokens == 16
    assert found.missing_bytes == found.total_bytes - GIB > 0


def test_a_card_without_numbers_has_no_ledger() -> None:
    load = Load(card=ModelCard(model_id="a/b"), precision="bf16", tensor_parallel_size=1, budget_bytes=1,
                context_tokens=1, concurrency=1, terms=TERMS)  # fmt: skip
    assert ledger(load) is None
    assert ledger(replace(load, card=replace(CARD, weights_bytes={}))) is None


@examples(80)
@given(
    budget=st.integers(70, 200).map(lambda n: n * GIB),
    concurrency=st.integers(1, 300),
    size=st.sampled_from([1, 2, 4, 8]),
    block=st.sampled_from([1, 16, 64, 128]),
)
def test_auto_is_always_the_longest(budget: int, concurrency: int, size: int, block: int) -> None:
    shared: dict[str, Any] = {
        "budget_bytes": budget,
        "concurrency": concurrency,
        "tensor_parallel_size": size,
        "terms": replace(TERMS, block_tokens=block),
    }
    found = book(context_tokens=None, **shared)
    if found.fits and found.context_tokens < QWEN.max_context:
        assert not book(context_tokens=found.context_tokens + block, **shared).fits
    if not found.fits:
        assert found.context_tokens == block


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 MiB"), (431_000_000, "411 MiB"), (GIB, "1.0 GiB"), (65_524_246_528, "61.0 GiB"), (10**15, "931,322.6 GiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert in_gib(size) == text


def test_what_is_assumed_has_a_range_and_so_has_the_sum() -> None:
    found = book(tensor_parallel_size=8)
    assert found.low_bytes < found.total_bytes < found.high_bytes
    assert {line.name for line in found.lines if line.basis == "assumed"} == {
        line.name for line in found.lines if line.low_bytes < line.bytes < line.high_bytes
    }
    assert found.as_json()["lines"][1]["low_bytes"] == found.kv_bytes


def test_weights_are_summed_tensor_by_tensor_where_their_headers_were_read() -> None:
    parts = (WeightPart(share="whole", layer=0, bytes=100), WeightPart(share="divided", layer=1, bytes=800))
    card = replace(CARD, weight_parts=parts, weights_basis="exact", weights_bytes={"bf16": 900})
    line = book(card=card, tensor_parallel_size=8).lines[0]
    assert (line.bytes, line.basis, line.low_bytes, line.high_bytes) == (200, "exact", 200, 200)
    assert book(card=card, precision="int4", tensor_parallel_size=8).lines[0].basis == "assumed"


def test_a_gpu_s_cache_takes_what_is_left_and_the_host_s_what_it_is_told() -> None:
    found = book()
    assert found.capacity.blocks == (found.budget_bytes - found.total_bytes + found.kv_bytes) // found.block_bytes
    told = book(terms=replace(TERMS, host_memory=True))
    assert told.capacity.blocks == told.kv_bytes // told.block_bytes == 2048 + 1


def kv_line(shape: Architecture) -> Line:
    return next(line for line in book(card=replace(CARD, architecture=shape)).lines if line.name == "kv cache")


def test_a_family_that_nobody_lists_has_a_cache_of_guessed_size() -> None:
    plain = kv_line(QWEN)
    guessed = kv_line(replace(QWEN, guess=Guess(family="new")))
    assert (plain.basis, plain.least, plain.most) == ("computed", None, None)
    assert (guessed.basis, guessed.bytes, guessed.least, guessed.most) == ("assumed", *[plain.bytes] * 3)
    assert guessed.note == f"{plain.note}; a guess: model_type new is not one that AIM Engine knows"


def test_a_guess_spans_from_what_is_surely_kept_to_full_attention() -> None:
    local = ((TokenCache(heads=8, key_dim=128, value_dim=128, window=1024),),) * 32
    shape = replace(QWEN, caches=local + ((QWEN.main_cache,),) * 32)
    windows = kv_line(replace(shape, guess=Guess(family="new")))
    assert (windows.least, windows.most) == (windows.bytes, kv_line(QWEN).bytes)
    assert windows.bytes < kv_line(QWEN).bytes
    unsure = Guess(family="new", signs=("conv",), unsure_layers=frozenset(range(32, 64)))
    states = kv_line(replace(shape, guess=unsure))
    assert (states.bytes, states.most) == (windows.bytes, windows.most)
    assert states.low_bytes < windows.low_bytes
    latent = kv_line(replace(QWEN, kv_lora_rank=512, qk_rope_head_dim=64, guess=Guess(family="new")))
    assert (latent.least, latent.most) == (latent.bytes, kv_line(QWEN).bytes)
