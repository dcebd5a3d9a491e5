"""The bytes of a checkpoint that nobody has counted, beside the layouts of some that are published."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.load import catalog_folders
from aim_engine.catalog.model_card import ModelCard, read_model_card
from aim_engine.catalog.reckoned_weights import known_weights, reckoned_weights
from tests.building import CARD, QWEN, examples


def card_of(model_id: str) -> ModelCard:
    card, problems = read_model_card(catalog_folders().models[0] / f"{model_id}.yaml")
    assert card is not None, problems
    return card


def matrices(shape: Architecture) -> list[tuple[int, int]]:
    """Inputs and outputs of the linear layers of one layer."""
    hidden, queries, keys = shape.hidden_size, shape.attention_heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden),
            *[(hidden, shape.intermediate_size)] * 2, (shape.intermediate_size, hidden)]  # fmt: skip


def four_bits(shape: Architecture, *, order: bool, head_norms: bool, tables: int = 2) -> int:
    """A checkpoint of AutoAWQ's or GPTQ's layout in groups of 128: qweight, scales in 16 bits, qzeros in 4; GPTQ has
    the `order` of the inputs (g_idx, 32 bits each). Embedding, head and norms are in 16 bits.
    """
    layer = sum(
        wide * out // 2 + wide // 128 * out * 2 + wide // 128 * out // 2 + (4 * wide if order else 0)
        for wide, out in matrices(shape)
    )
    norms = 2 * (2 * shape.hidden_size + (2 * shape.head_dim if head_norms else 0))
    return shape.layers * (layer + norms) + 2 * shape.hidden_size * (1 + tables * shape.vocab_size)


PUBLISHED = [
    ("Qwen/Qwen3-8B", {"order": False, "head_norms": True}, 6.09),
    ("Qwen/Qwen3-14B", {"order": False, "head_norms": True}, 9.97),
    ("Qwen/Qwen3-32B", {"order": False, "head_norms": True}, 19.33),
    ("meta-llama/Llama-3.1-8B-Instruct", {"order": True, "head_norms": False}, 5.74),
    ("Qwen/Qwen3-4B", {"order": False, "head_norms": True, "tables": 1}, 2.67),
]


@pytest.mark.parametrize(("model_id", "layout", "gigabytes"), PUBLISHED, ids=[one[0] for one in PUBLISHED])
def test_four_bits_are_what_known_checkpoints_of_them_take(
    model_id: str, layout: dict[str, bool], gigabytes: float
) -> None:
    card = card_of(model_id)
    assert card.architecture is not None
    truth = four_bits(card.architecture, **layout)
    assert truth / 1e9 == pytest.approx(gigabytes, abs=0.01)
    for known in ({"bf16": card.weights_bytes["bf16"]}, {"fp8": card.weights_bytes["fp8"]}, card.weights_bytes):
        found = replace(card, weights_bytes=known, tied="tables" in layout).weights_in("int4")
        assert found is not None
        assert found.least <= truth <= found.most
        assert found.bytes == pytest.approx(truth, rel=0.005)
        assert found.basis == "assumed"


def test_eight_bits_reckoned_from_sixteen_are_the_counted_ones() -> None:
    for model_id in ("Qwen/Qwen3-32B", "meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-30B-A3B"):
        card = card_of(model_id)
        found = replace(card, weights_bytes={"bf16": card.weights_bytes["bf16"]}).weights_in("fp8")
        assert found is not None
        assert found.least <= card.weights_bytes["fp8"] <= found.most
        assert found.bytes == pytest.approx(card.weights_bytes["fp8"], rel=0.002)


def test_one_table_or_two_is_in_the_range_where_nobody_has_said_it() -> None:
    card = card_of("Qwen/Qwen3-4B")  # its head is its embedding
    assert card.architecture is not None
    truth = four_bits(card.architecture, order=False, head_norms=True, tables=1)
    unsaid = replace(card, weights_bytes={"bf16": card.weights_bytes["bf16"]}).weights_in("int4")
    assert unsaid is not None
    assert unsaid.least <= truth < unsaid.bytes
    assert card_of("google/gemma-3-27b-it").tied, "by its family"
    assert not card_of("Qwen/Qwen3-32B").tied


@pytest.mark.parametrize(
    ("precision", "size", "basis"),
    [
        ("bf16", 65_524_246_528, "computed"),
        ("fp8", 34_322_434_048, "computed"),
        ("fp16", 65_524_246_528, "computed"),
        ("int8", 34_322_434_048, "assumed"),
    ],
)
def test_what_was_counted_stays_and_its_like_is_the_same(precision: str, size: int, basis: str) -> None:
    found = CARD.weights_in(precision)
    assert found is not None
    assert found.basis == basis
    assert found.bytes == pytest.approx(size, rel=0.001)
    assert basis == "assumed" or found == known_weights(size, basis)


def test_without_a_shape_all_of_it_is_quantised() -> None:
    found = reckoned_weights({"bf16": 3200}, "fp4", basis="exact", shape=None, tied=False)
    assert (found.bytes, found.least, found.most) == (850, 850, 977)
    assert replace(CARD, weights_bytes={}).weights_in("int4") is None


@given(
    size=st.integers(1, 10**13),
    other=st.sampled_from(["bf16", "fp8", "int4", "fp4"]),
    wanted=st.sampled_from(["bf16", "fp8", "int8", "int4", "fp4"]),
    tied=st.booleans(),
)
@examples(300)
def test_fewer_bits_are_never_more_bytes(size: int, other: str, wanted: str, tied: bool) -> None:
    order = ["int4", "fp4", "int8", "fp8", "bf16"]
    found = reckoned_weights({other: size}, wanted, basis="computed", shape=QWEN, tied=tied)
    assert 0 < found.least <= found.bytes <= found.most
    if other != wanted and not {other, wanted} <= {"int8", "fp8"}:
        assert (found.bytes <= size) == (order.index(wanted) < order.index(other)) or found.bytes == size
