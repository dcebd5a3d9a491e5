"""What each layer keeps, by family; tests/scripts/test_memory_agrees.py holds the outcome against the engine."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.catalog.architecture import Guess
from aim_engine.catalog.cache_families import _BY_KIND, guess_at, layer_caches
from aim_engine.catalog.config_numbers import text_part
from aim_engine.catalog.layer_cache import LayerCaches, StateCache, TokenCache
from aim_engine.catalog.model_shape import architecture
from tests.building import examples

USUAL = TokenCache(heads=8, key_dim=128, value_dim=128)


def kinds(config: dict[str, Any], layers: int = 12) -> str:
    """One letter for what a layer keeps: Full, Window, Chunk, State, - for nothing; + between two."""
    return "".join(_letters(caches) for caches in layer_caches(config, USUAL, layers))


def _letters(caches: Any) -> str:
    found = ["S" if isinstance(cache, StateCache) else "W" if cache.window else "C" if cache.chunk else "F"
             for cache in caches]  # fmt: skip
    return "+".join(found) or "-"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "llama"}, "F" * 12),
        ({"model_type": "mistral", "sliding_window": 4096}, "W" * 12),
        ({"model_type": "mistral", "sliding_window": None}, "F" * 12),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, "F" * 12),
        ({"model_type": "gemma2", "sliding_window": 4096}, "WF" * 6),
        ({"model_type": "gemma3_text", "sliding_window": 512}, "WWWWWF" * 2),
        ({"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 3}, "WWF" * 4),
        ({"model_type": "gemma3n_text", "sliding_window": 512, "num_kv_shared_layers": 7}, "WWWWF-------"),
        ({"model_type": "gpt_oss"}, "WF" * 6),
        ({"model_type": "cohere2", "sliding_window": 4096}, "WWWF" * 3),
        ({"model_type": "exaone4", "sliding_window": 4096, "sliding_window_pattern": "LLG"}, "WWF" * 4),
        ({"model_type": "llama4_text"}, "CCCF" * 3),
        ({"model_type": "llama4_text", "no_rope_layers": [0, 1] * 6}, "FC" * 6),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 512}, "F" * 12),
        ({"model_type": "deepseek_v32", "kv_lora_rank": 512}, "F+F" * 12),
        ({"model_type": "mamba", "hidden_size": 64}, "S" * 12),
        ({"model_type": "jamba", "hidden_size": 64}, "SSSSFSSSSSSS"),
        ({"model_type": "falcon_h1", "hidden_size": 64}, "S+F" * 12),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M-M*-EMEM*"}, "S-S-SF--S-SF"),
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba"] * 11 + ["attention"]}, "S" * 11 + "F"),
        ({"model_type": "qwen3_next"}, "SSSF" * 3),
        ({"model_type": "lfm2", "full_attn_idxs": [2, 5], "hidden_size": 64}, "SSFSSFSSSSSS"),
        ({"model_type": "kimi_linear", "kv_lora_rank": 512, "linear_attn_config": {"kda_layers": [1, 2, 3]}},
         "SSSFFFFFFFFF"),
        ({"model_type": "nobody-s", "sliding_window": 99, "layer_types": ["full_attention"] * 12}, "F" * 12),
    ],
)  # fmt: skip
def test_what_each_layer_keeps(config: dict[str, Any], expected: str) -> None:
    assert kinds(config) == expected


EVERY_LAYER = frozenset(range(4))


@pytest.mark.parametrize(
    ("config", "guess"),
    [
        ({"model_type": "qwen3"}, None),
        ({"model_type": "jamba", "mamba_d_state": 16}, None),
        ({"model_type": "nobody-s"}, Guess(family="nobody-s")),
        ({}, Guess(family="")),
        ({"model_type": ["odd"]}, Guess(family="")),
        ({"model_type": "nobody-s", "layer_types": ["sliding_attention", "full_attention"] * 2},
         Guess(family="nobody-s")),
        ({"model_type": "nobody-s", "layer_types": ["conv", "full_attention"] * 2},
         Guess(family="nobody-s", signs=("conv",), unsure_layers=frozenset({0, 2}))),
        ({"model_type": "nobody-s", "layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3},
         Guess(family="nobody-s", signs=("conv", "conv_L_cache"), unsure_layers=frozenset({0, 2}))),
        ({"model_type": "nobody-s", "ssm_state_size": 16},
         Guess(family="nobody-s", signs=("ssm_state_size",), unsure_layers=EVERY_LAYER)),
        ({"model_type": "nobody-s", "rwkv_version": 7, "convolute": 3},
         Guess(family="nobody-s", signs=("rwkv_version",), unsure_layers=EVERY_LAYER)),
        ({"model_type": "nobody-s", "use_mamba": False}, Guess(family="nobody-s")),
    ],
)  # fmt: skip
def test_what_nobody_lists_is_a_guess(config: dict[str, Any], guess: Guess | None) -> None:
    assert guess_at(config, 4) == guess


def test_a_guess_in_words() -> None:
    assert Guess(family="rwkv9").sentence == "model_type rwkv9 is not one that AIM Engine knows"
    assert Guess(family="", signs=("conv", "ssm_state_size")).sentence == (
        "no model_type is named, and its config names conv, ssm_state_size"
    )


def test_a_model_whose_config_leaves_numbers_to_transformers() -> None:
    """google/gemma-3-4b-it names no heads (its public config.json)."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
            "sliding_window": 1024}  # fmt: skip
    shape = architecture(text_part({"model_type": "gemma3", "text_config": text}))
    assert shape is not None
    assert (shape.attention_heads, shape.kv_heads, shape.head_dim, shape.vocab_size) == (8, 4, 256, 262208)
    assert Counter(map(_letters, shape.layer_caches)) == {"W": 29, "F": 5}


def test_gemma_4_has_wide_heads_where_attention_is_full() -> None:
    caches = layer_caches({"model_type": "gemma4_text", "sliding_window": 512, "global_head_dim": 512}, USUAL, 6)
    assert [(one.key_dim, one.window) for layer in caches for one in layer if isinstance(one, TokenCache)] == [
        *[(128, 512)] * 5,
        (512, 0),
    ]


odd = st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=3) | st.lists(st.none() | st.integers(-1, 12))
names = ["layer_types", "sliding_window", "sliding_window_pattern", "no_rope_layers", "hybrid_layer_pattern",
         "layers_block_type", "hybrid_override_pattern", "attn_layer_indices", "hybrid_layer_ids", "full_attn_idxs",
         "linear_attn_config", "mamba_n_heads", "n_mamba_heads", "mamba_headdim", "attn_layer_period",
         "num_kv_shared_layers", "full_attention_interval", "use_sliding_window", "kv_lora_rank"]  # fmt: skip


@examples(300)
@given(kind=st.sampled_from(sorted(_BY_KIND)), numbers=st.dictionaries(st.sampled_from(names), odd, max_size=6))
def test_odd_configs_do_no_harm(kind: str, numbers: dict[str, Any]) -> None:
    found: LayerCaches = layer_caches({"model_type": kind, "hidden_size": 64, **numbers}, USUAL, 6)
    assert len(found) == 6


@examples(100)
@given(numbers=st.dictionaries(st.sampled_from([*names, "ssm_x", "block_types"]), odd, max_size=6))
def test_odd_configs_of_nobody_are_guesses(numbers: dict[str, Any]) -> None:
    found = guess_at({"model_type": "nobody-s", **numbers}, 6)
    assert found is not None
    assert found.unsure_layers <= frozenset(range(6))
    assert found.sentence
