"""How layers share a pool, against vLLM's own examples (vllm/v1/core/kv_cache_utils.py)."""

from __future__ import annotations

from dataclasses import replace

from aim_engine.selection.cache_groups import Pages, grouped, of_one_type, without_bounds

FULL = Pages(block_tokens=16, page_bytes=1024)
LOCAL = Pages(block_tokens=16, page_bytes=1024, window=128)
STATE = Pages(block_tokens=16, page_bytes=1024, state_blocks=2)


def layers(*runs: tuple[int, Pages]) -> tuple[tuple[int, Pages], ...]:
    kinds = [pages for count, pages in runs for _ in range(count)]
    return tuple(enumerate(kinds))


def sizes(*runs: tuple[int, Pages]) -> list[int]:
    groups = grouped(layers(*runs))
    assert groups is not None
    return [len(group) for group in groups]


def test_layers_of_one_kind_are_one_group() -> None:
    assert sizes((64, FULL)) == [64]
    assert sizes((64, LOCAL)) == [64]
    assert sizes((64, STATE)) == [64]
    assert grouped(()) == ()


def test_full_attention_of_several_sizes_is_one_group() -> None:
    assert sizes((3, FULL), (3, Pages(block_tokens=16, page_bytes=640, latent=True))) == [6]


def test_groups_have_as_many_layers_as_the_rarest_kind() -> None:
    assert sizes((10, FULL), (20, LOCAL)) == [10, 10, 10]
    assert sizes((10, FULL), (52, LOCAL)) == [10, 9, 9, 9, 9, 8, 8]  # Gemma 3 27B: the last ones are padded


def test_nearly_as_many_of_both_make_one_group_each() -> None:
    """gpt-oss-20b with a drafter: 12 windows and 13 full (the engine's own example)."""
    assert sizes((12, LOCAL), (13, FULL)) == [12, 13]
    assert sizes((2, LOCAL), (3, FULL)) == [2, 2, 1]


def test_layers_are_dealt_out_in_turn_so_that_each_stage_has_some_of_each_group() -> None:
    groups = grouped(layers((2, FULL), (4, LOCAL)))
    assert groups is not None
    assert [[number for number, _ in group] for group in groups] == [[0, 1], [2, 4], [3, 5]]


def test_smaller_pages_become_larger_blocks_where_that_divides() -> None:
    small = Pages(block_tokens=16, page_bytes=512, window=128)
    groups = grouped(layers((1, FULL), (1, small)))
    assert groups is not None
    assert groups[1][0][1] == Pages(block_tokens=32, page_bytes=1024, window=128)


def test_and_are_padded_where_not() -> None:
    odd = Pages(block_tokens=16, page_bytes=640, window=128)
    groups = grouped(layers((1, FULL), (1, odd)))
    assert groups is not None
    assert groups[1][0][1] == Pages(block_tokens=16, page_bytes=1024, window=128)
    states = grouped(layers((1, FULL), (1, Pages(block_tokens=16, page_bytes=512, state_blocks=1))))
    assert states is not None
    assert states[1][0][1].page_bytes == 1024


def test_latent_pages_cannot_be_padded_so_windows_beside_them_are_held_whole() -> None:
    latent = Pages(block_tokens=16, page_bytes=640, latent=True)
    assert sizes((4, latent), (2, LOCAL)) == [6]
    assert grouped(layers((4, latent), (2, STATE))) is None


def test_without_the_hybrid_manager_every_layer_holds_all() -> None:
    assert of_one_type(layers((2, FULL), (4, LOCAL))) == without_bounds(layers((2, FULL), (4, LOCAL)))
    groups = grouped(without_bounds(layers((2, FULL), (4, LOCAL))))
    assert groups is not None
    assert [len(group) for group in groups] == [6]


def test_but_windows_alone_stay_windows() -> None:
    assert of_one_type(layers((4, LOCAL))) == layers((4, LOCAL))
    assert of_one_type(()) == ()


def test_and_what_is_of_several_types_even_so_is_refused() -> None:
    assert of_one_type(layers((2, FULL), (2, STATE))) is None
    assert of_one_type(layers((2, LOCAL), (2, replace(LOCAL, window=64)))) is None
    assert of_one_type(layers((2, STATE))) == layers((2, STATE))
