"""What a layer of attention keeps, from the numbers of a config: one rule for each family of models.

The source is vLLM 0.32 (the files named are in vllm/model_executor/) and, for what a config leaves out, transformers'
own defaults. Knows no bytes and no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aim_engine.catalog.config_numbers import Config, for_each, whole
from aim_engine.catalog.layer_cache import LayerCache, LayerCaches, TokenCache

# A config, a layer of full attention with its main numbers, and how many layers there are.
Rule = Callable[[Config, TokenCache, int], LayerCaches]

FULL_WORDS = frozenset({"full_attention", "attention", "global", "full"})


def plain(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """layer_types says which layers have the window; without it all have (vllm/engine/arg_utils.py, llama.py)."""
    window = whole(config, "sliding_window")
    types = for_each(config, "layer_types", layers) or ["sliding_attention"] * layers
    local = [bool(window) and word == "sliding_attention" for word in types]
    return tuple((replace(usual, window=window),) if is_local else (usual,) for is_local in local)


def full(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """No windows at all."""
    return ((usual,),) * layers


def window_if_used(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """Qwen names a window that counts only where use_sliding_window is true (transformers, Qwen2Config)."""
    return plain(config, usual, layers) if config.get("use_sliding_window") else full(config, usual, layers)


def every_other(period: int, *, plus: int = 0) -> Rule:
    """Windows, and full attention in every so-maniest layer, unless layer_types says which. Older configs call the
    period sliding_window_pattern.
    """

    def rule(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
        window = whole(config, "sliding_window") + plus
        types = for_each(config, "layer_types", layers)
        if not types:
            every = whole(config, "sliding_window_pattern") or whole(config, "_sliding_window_pattern") or period
            types = ["full_attention" if (place + 1) % every == 0 else "sliding_attention" for place in range(layers)]
        if window == plus:
            return full(config, usual, layers)
        local = (replace(usual, window=window),)
        return tuple((usual,) if str(word) in FULL_WORDS else local for word in types)

    return rule


def exaone4(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """The pattern may be letters, "LLLG" (transformers, Exaone4Config)."""
    letters = config.get("sliding_window_pattern")
    return every_other(len(letters) if isinstance(letters, str) and letters else 4)(config, usual, layers)


def gpt_oss(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """Every other layer, whatever layer_types says (gpt_oss.py, OAIAttention)."""
    local = replace(usual, window=whole(config, "sliding_window") or 128)
    return tuple((usual,) if place % 2 else (local,) for place in range(layers))


def gemma3n(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """The last layers read the caches of earlier ones (gemma3n.py, Gemma3nAttention)."""
    own = layers - whole(config, "num_kv_shared_layers", 15)
    return tuple(caches if place < own else () for place, caches in enumerate(every_other(5)(config, usual, layers)))


def gemma4(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """Full attention has heads of its own size and number, and the last layers share (gemma4.py, Gemma4Attention)."""
    heads = usual.heads
    if config.get("attention_k_eq_v"):
        heads = whole(config, "num_global_key_value_heads") or heads
    wide = whole(config, "global_head_dim", 512)
    own = layers - whole(config, "num_kv_shared_layers")
    found: list[tuple[LayerCache, ...]] = []
    for place, caches in enumerate(every_other(6)(config, usual, layers)):
        cache = caches[0]
        if isinstance(cache, TokenCache) and not cache.window:
            cache = replace(cache, heads=heads, key_dim=wide, value_dim=wide)
        found.append((cache,) if place < own else ())
    return tuple(found)


def llama4(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """Chunks where positions are rotated, full attention where not: every fourth layer, or as no_rope_layers says
    (llama4.py, Llama4Attention).
    """
    rotated = for_each(config, "no_rope_layers", layers)
    if not rotated:
        every = whole(config, "no_rope_layer_interval") or 4
        rotated = [(place + 1) % every != 0 for place in range(layers)]
    chunk = whole(config, "attention_chunk_size", 8192)
    return tuple((replace(usual, chunk=chunk),) if turn and chunk else (usual,) for turn in rotated)


def mimo_v2(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """Windows with heads of their own where hybrid_layer_pattern is 1 (mimo_v2.py, MiMoV2FlashDecoderLayer)."""
    keys = whole(config, "swa_head_dim") or usual.key_dim
    local = TokenCache(
        heads=whole(config, "swa_num_key_value_heads") or usual.heads,
        key_dim=keys,
        value_dim=whole(config, "swa_v_head_dim") or keys,
        window=whole(config, "sliding_window_size") or whole(config, "sliding_window"),
    )
    wide = replace(usual, value_dim=whole(config, "v_head_dim") or usual.value_dim)
    marks = for_each(config, "hybrid_layer_pattern", layers) or [0] * layers
    return tuple((local,) if mark == 1 else (wide,) for mark in marks)


def latent(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """One vector of kv_lora_rank + qk_rope_head_dim (layers/attention/mla_attention.py)."""
    width = whole(config, "kv_lora_rank") + whole(config, "qk_rope_head_dim")
    return ((TokenCache(heads=1, key_dim=width, value_dim=0, latent=True),),) * layers


def latent_indexed(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """And an index of fp8 keys with a 4-byte scale for each 128 (deepseek_v2.py, Indexer)."""
    keys = whole(config, "index_head_dim", 128)
    index = TokenCache(heads=1, key_dim=keys + keys // 128 * 4, value_dim=0, latent=True, element_bytes=1)
    return tuple((*caches, index) for caches in latent(config, usual, layers))
