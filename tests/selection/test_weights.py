"""What one GPU holds of the weights, by hand; tests/engine holds it against the engine's own sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.catalog.layer_cache import StateCache, StatePart
from aim_engine.catalog.weights import (
    DIVIDED,
    EMBEDDING,
    HEAD,
    KV_HEADS,
    STATE_GROUPS,
    UNKNOWN,
    VOCABULARY,
    WHOLE,
    WeightPart,
)
from aim_engine.selection.weights import weights_of_one_gpu
from tests.building import QWEN

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
