"""The KV cache's blocks by hand; tests/scripts/test_memory_agrees.py holds them against the engine's own figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.layer_cache import LayerCache, StateCache, StatePart, TokenCache
from aim_engine.catalog.terms import ServingTerms
from aim_engine.selection.kv_cache import CachePool, cache_pool
from tests.building import QWEN, examples

TERMS = ServingTerms(
    context_tokens=None,
    memory_fraction=0.9,
    block_tokens=16,
    batch_tokens=8192,
    kv_element_bytes=2,
    eager=False,
    host_memory=False,
    in_flight_batches=2,
)
FULL = TokenCache(heads=8, key_dim=128, value_dim=128)
LATENT = TokenCache(heads=1, key_dim=576, value_dim=0, latent=True)
STATE = StateCache(parts=(StatePart(rows=8192, columns=3), StatePart(rows=32, columns=128 * 128, recurrent=True)))


def pool_of(*layers: tuple[LayerCache, ...], width: int = 1, **terms: Any) -> CachePool:
    found = cache_pool(shape_of(*layers), replace(TERMS, **terms), width)
    assert found is not None
    return found


def shape_of(*layers: tuple[LayerCache, ...]) -> Architecture:
    return replace(QWEN, layers=len(layers), caches=layers)


def test_full_attention() -> None:
    pool = pool_of(*[(FULL,)] * 64)
    assert pool.block_bytes == 64 * 16 * 2 * 8 * 128 * 2
    assert (pool.blocks(1), pool.blocks(16), pool.blocks(17), pool.blocks(32768)) == (1, 1, 2, 2048)
    assert pool.bytes_for(32768, 3) == (3 * 2048 + 1) * pool.block_bytes


def test_a_window_bounds_a_request_s_blocks_but_for_the_steps_under_way() -> None:
    pool = pool_of(*[(replace(FULL, window=4096),)] * 4)
    assert pool.blocks(10_000) == 625 + 1  # all of it, and one because a window need not begin where a block does
    assert pool.blocks(1_000_000) == -(-(4095 + 2 * 8192) // 16) + 1
    alone = pool_of(*[(replace(FULL, window=4096),)] * 4, in_flight_batches=1)
    assert alone.blocks(1_000_000) == -(-(4095 + 8192) // 16) + 1


def test_a_chunk_likewise() -> None:
    assert pool_of((replace(FULL, chunk=8192),)).blocks(1_000_000) == (8192 + 2 * 8192) // 16


def test_without_the_hybrid_manager_a_window_saves_nothing() -> None:
    layers: list[tuple[LayerCache, ...]] = [(FULL,), (replace(FULL, window=128),)] * 4
    assert pool_of(*layers, hybrid_cache=False).blocks(160_000) == 10_000
    assert pool_of(*layers).blocks(160_000) == 10_000 + -(-(127 + 16384) // 16) + 1


def test_but_windows_without_full_attention_do() -> None:
    """As a real start of Mistral with a window said."""
    layers: list[tuple[LayerCache, ...]] = [(replace(FULL, window=128),)] * 4
    assert pool_of(*layers, hybrid_cache=False).blocks(160_000) == pool_of(*layers).blocks(160_000) < 10_000


def test_latent_attention_is_whole_on_every_gpu_and_has_its_own_packing() -> None:
    assert {pool_of((LATENT,), width=width).block_bytes for width in (1, 2, 8)} == {16 * 1152}
    assert pool_of((LATENT,), kv_element_bytes=1).block_bytes == 16 * 576
    assert pool_of((LATENT,), kv_element_bytes=1, latent_token_bytes=656).block_bytes == 16 * 656
    assert pool_of((LATENT,), block_tokens=128, latent_block_tokens=16).block_tokens == 16


def test_an_index_of_its_own_precision_shares_the_blocks() -> None:
    index = TokenCache(heads=1, key_dim=132, value_dim=0, latent=True, element_bytes=1)
    pool = pool_of((LATENT, index), (LATENT, index))
    assert pool.block_bytes == 2 * 16 * (1152 + 132)
    assert pool.blocks(160) == 10


def test_beside_a_state_blocks_grow_until_a_page_holds_it() -> None:
    """Qwen3-Next: 36 delta nets, 12 layers of attention with two heads of 256."""
    attention = TokenCache(heads=2, key_dim=256, value_dim=256)
    four: list[tuple[LayerCache, ...]] = [(STATE,), (STATE,), (STATE,), (attention,)]
    pool = pool_of(*four * 12)
    state_bytes = (8192 * 3 + 32 * 128 * 128) * 2
    assert pool.block_tokens == -(-state_bytes // (16 * 2048)) * 16 == 544
    assert pool.block_bytes == 12 * 544 * 2048
    assert pool.blocks(544) == 1 + 3 * 2
    assert pool_of((STATE,), (attention,), prefix_caching=False).blocks(544) == 1 + 1


def test_states_alone_take_the_same_for_any_request() -> None:
    pool = pool_of((STATE,), (STATE,))
    assert (pool.blocks(1), pool.blocks(10**6)) == (1, 1)
    assert pool.block_bytes == 2 * (8192 * 3 + 32 * 128 * 128) * 2
    assert pool_of((STATE,), recurrent_element_bytes=4).block_bytes == 8192 * 3 * 2 + 32 * 128 * 128 * 4
    assert pool_of((STATE,), (STATE,), width=2).block_bytes == pool.block_bytes // 2


@pytest.mark.parametrize(("asked", "alone", "beside"), [(None, 1, 2), (True, 2, 2), (False, 1, 1)])
def test_a_state_is_kept_twice_to_remember_prefixes(asked: bool | None, alone: int, beside: int) -> None:
    """vLLM does so by itself beside attention; for states alone somebody has to ask (seen by real starts)."""
    attention = TokenCache(heads=2, key_dim=256, value_dim=256)
    assert pool_of((STATE,), prefix_caching=asked).blocks(16) == alone
    assert pool_of((STATE,), (attention,), prefix_caching=asked).blocks(16) == beside + 1


def test_a_group_is_on_every_gpu_that_has_heads_of_it() -> None:
    state = StateCache(parts=(StatePart(rows=1024, columns=3, groups=1, group_rows=256),))
    assert pool_of((state,), width=1).block_bytes == (1024 + 256) * 3 * 2
    assert pool_of((state,), width=4).block_bytes == (1024 + 4 * 256) // 4 * 3 * 2


def test_a_stage_of_a_pipeline_holds_its_own_layers() -> None:
    whole, halves = pool_of(*[(FULL,)] * 61), pool_of(*[(FULL,)] * 61, pipeline_parallel_size=2)
    assert halves.block_bytes == whole.block_bytes * 31 // 61
    local = [(FULL,), (replace(FULL, window=128),)] * 8
    assert pool_of(*local, pipeline_parallel_size=4).block_bytes == pool_of(*local).block_bytes // 4


def test_layers_that_read_another_s_cache_take_nothing() -> None:
    assert pool_of((FULL,), (), ()).block_bytes == pool_of((FULL,)).block_bytes


def test_what_cannot_be_laid_out_is_not_guessed() -> None:
    assert cache_pool(shape_of((LATENT,), (replace(FULL, chunk=64),)), TERMS, 1) is None


def test_a_cache_s_capacity_in_the_engine_s_own_words() -> None:
    pool = pool_of(*[(FULL,)] * 4)
    found = pool.capacity(1000 * pool.block_bytes + 1, 100)
    assert (found.blocks, found.concurrency, found.tokens) == (1000, 1000 / 7, int(1000 / 7 * 100))
    assert pool.capacity(-1, 100).blocks == 0


layer = st.sampled_from([(FULL,), (replace(FULL, window=1024),), (replace(FULL, chunk=512),), (STATE,), (LATENT,), ()])


@examples(200)
@given(
    layers=st.lists(layer, min_size=1, max_size=12),
    width=st.sampled_from([1, 2, 4, 8]),
    stages=st.integers(1, 3),
    requests=st.integers(1, 50),
    cache=st.integers(0, 2**36),
)
def test_the_longest_context_is_the_longest(
    layers: list[tuple[LayerCache, ...]], width: int, stages: int, requests: int, cache: int
) -> None:
    pool = cache_pool(shape_of(*layers), replace(TERMS, pipeline_parallel_size=stages), width)
    if pool is None:
        return
    longest = pool.longest(cache, requests, 100_000)
    assert longest == 0 or pool.bytes_for(longest, requests) <= cache
    assert longest == 100_000 or pool.bytes_for(longest + 1, requests) > cache
    if longest and pool.groups:  # what fits, the engine would accept: all requests and the block that stays empty
        assert pool.capacity(cache, longest).blocks - 1 >= requests * pool.blocks(longest)


@pytest.mark.parametrize(("width", "heads"), [(1, 8), (4, 2), (8, 1), (16, 1)])
def test_fewer_kv_heads_than_gpus_are_replicated(width: int, heads: int) -> None:
    assert pool_of((FULL,), width=width).token_bytes == 2 * heads * 128 * 2
