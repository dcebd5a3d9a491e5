"""What one GPU holds of the weights, by hand; tests/engine holds it against the engine's own sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.catalog.layer_cache import StateCache, StatePart
from aim_engine.catalog.weights import (
    DIVIDED,
    EMBEDDING,
    EXPERTS,
    HEAD,
    KV_HEADS,
    OF_EXPERTS,
    STATE_GROUPS,
    UNKNOWN,
    VOCABULARY,
    WHOLE,
    WeightPart,
)
from aim_engine.selection.weights import held_bytes, padding, weights_of_one_gpu
from tests.building import CARD, QWEN
from tests.selection.test_memory import TERMS

TABLE = WeightPart(share=VOCABULARY, layer=EMBEDDING, bytes=1000 * 10, rows=1000)


def held(*parts: WeightPart, width: int = 1, depth: int = 1, tied: bool = False) -> int:
    return weights_of_one_gpu(parts, QWEN, tied=tied, width=width, depth=depth)


def part(share: str, layer: int = 0, size: int = 8000) -> WeightPart:
    return WeightPart(share=share, layer=layer, bytes=size)


@pytest.mark.parametrize(
    ("share", "sizes"),
    [(WHOLE, [8000, 8000, 8000]), (UNKNOWN, [8000, 8000, 8000]), (DIVIDED, [8000, 1000, 500]),
     (KV_HEADS, [8000, 1000, 1000])],
)  # fmt: skip
def test_shares(share: str, sizes: list[int]) -> None:
    assert [held(part(share), width=width) for width in (1, 8, 16)] == sizes


def test_a_vocabulary_is_padded() -> None:
    assert held(TABLE) == 1024 * 10
    assert held(TABLE, width=8) == 128 * 10


def test_stages() -> None:
    """64 layers on two stages; embedding and head at the ends, one table at both."""
    layers = [part(DIVIDED, layer=number, size=100) for number in range(64)]
    head = replace(TABLE, layer=HEAD)
    assert held(*layers) == 6400
    assert held(*layers, depth=2) == 3200
    assert held(*layers, TABLE, replace(head, bytes=1000 * 30), depth=2) == 3200 + 1024 * 30
    assert held(TABLE, part(WHOLE, layer=HEAD, size=7), depth=2, tied=True) == 1024 * 10 + 7
    assert held(TABLE, part(WHOLE, layer=HEAD, size=7), depth=2) == 1024 * 10


def test_every_gpu_has_a_group_for_its_heads() -> None:
    state = StateCache(parts=(StatePart(rows=256, columns=3, groups=2, group_rows=32),))
    shape = replace(QWEN, caches=((state,),) * 64)
    sizes = [weights_of_one_gpu([part(STATE_GROUPS)], shape, tied=False, width=width, depth=1) for width in (1, 2, 8)]
    assert sizes == [8000, 4000, 4000]


def test_experts_are_divided_among_copies_too_or_whole() -> None:
    card = replace(
        CARD,
        architecture=replace(QWEN, experts=10),
        weight_parts=(part(EXPERTS, size=1000), part(OF_EXPERTS, size=100), part(DIVIDED, size=800)),
    )

    def found(width: int, copies: int, *, whole: bool) -> int:
        return held_bytes(card, replace(TERMS, data_parallel_size=copies, expert_parallel=whole), width)

    assert found(1, 1, whole=False) == found(1, 1, whole=True) == 1900
    assert found(2, 1, whole=False) == 500 + 100 + 400
    assert found(2, 1, whole=True) == 500 + 50 + 400
    assert found(2, 2, whole=False) == 250 + 100 + 400
    assert found(2, 2, whole=True) == 300 + 30 + 400  # 10 experts on 4 GPUs are 3 on some


def test_experts_in_mxfp4_are_padded_on_rocm() -> None:
    """gpt-oss-120b: 36 layers of 128 experts of 2880 x 2880, which become 3072, or 512 of 360 on each of 8 GPUs."""
    shape = replace(QWEN, layers=36, hidden_size=2880, intermediate_size=2880, experts=128)
    card, terms = replace(CARD, architecture=shape, quantization="mxfp4"), replace(TERMS, mxfp4_step=256)

    def bytes_of(rows: int, columns: int) -> int:
        return 36 * 128 * (3 * rows * columns * 17 // 32 + 2 * (2 * columns + rows))

    assert padding(card, terms, 1) == bytes_of(3072, 3072) - bytes_of(2880, 2880)
    assert padding(card, terms, 8) == bytes_of(3072, 512) - bytes_of(2880, 360)
    whole = bytes_of(3072, 3072) - bytes_of(2880, 2880)
    assert padding(card, replace(terms, expert_parallel=True), 8) == whole // 8
    assert padding(card, TERMS, 8) == 0
    assert padding(replace(card, quantization="quark"), terms, 8) == 0
    assert padding(replace(card, architecture=replace(shape, experts=0)), terms, 8) == 0
