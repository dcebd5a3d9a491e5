"""What a layer keeps that has a state instead of attention, or besides it: one rule for each family of hybrid models.

The source is vLLM 0.32 (the files named are in vllm/model_executor/) and, for what a config leaves out, transformers'
own defaults. Knows no bytes and no GPU.
"""

from __future__ import annotations

from dataclasses import replace

from aim_engine.catalog.attention_layers import FULL_WORDS, latent
from aim_engine.catalog.config_numbers import Config, bytes_of, for_each, numbers, whole
from aim_engine.catalog.layer_cache import LayerCache, LayerCaches, StateCache, StatePart, TokenCache


def _mamba1(inner: int, state: int, kernel: int) -> StateCache:
    """layers/mamba/mamba_utils.py, mamba1_state_shape."""
    return StateCache(
        parts=(StatePart(rows=inner, columns=kernel - 1), StatePart(rows=inner, columns=state, recurrent=True))
    )


def _mamba2(
    *, inner: int, groups: int, heads: int, head_dim: int, state: int, kernel: int, wide: int = 0
) -> StateCache:
    """layers/mamba/mamba_utils.py, mamba2_state_shape: a GPU has at least one group of its own. `wide` is the bytes of
    the recurrence where the family fixes them.
    """
    return StateCache(
        parts=(
            StatePart(rows=inner, columns=kernel - 1, groups=groups, group_rows=2 * state),
            StatePart(rows=heads, columns=head_dim * state, recurrent=True, element_bytes=wide),
        ),
        checkpoints=1,  # layers/mamba/mamba_mixer2.py, get_kv_cache_spec
    )


def mamba(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """States alone (mamba.py)."""
    inner = whole(config, "intermediate_size") or whole(config, "expand", 2) * whole(config, "hidden_size")
    return ((_mamba1(inner, whole(config, "state_size", 16), whole(config, "conv_kernel", 4)),),) * layers


def mamba2_alone(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """States alone (mamba2.py)."""
    state = _mamba2(
        inner=whole(config, "expand", 2) * whole(config, "hidden_size"),
        groups=whole(config, "n_groups", 8),
        heads=whole(config, "num_heads", 128),
        head_dim=whole(config, "head_dim", 64),
        state=whole(config, "state_size", 128),
        kernel=whole(config, "conv_kernel", 4),
    )
    return ((state,),) * layers


def jamba(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """Attention in every so-maniest layer from an offset (jamba.py)."""
    inner = whole(config, "mamba_expand", 2) * whole(config, "hidden_size")
    state = _mamba1(inner, whole(config, "mamba_d_state", 16), whole(config, "mamba_d_conv", 4))
    period, offset = whole(config, "attn_layer_period", 8), whole(config, "attn_layer_offset", 4)
    return tuple((usual,) if place % period == offset else (state,) for place in range(layers))


def _granite_state(config: Config) -> StateCache:
    inner = whole(config, "mamba_d_ssm") or whole(config, "mamba_expand", 2) * whole(config, "hidden_size")
    return _mamba2(
        inner=inner,
        groups=whole(config, "mamba_n_groups", 1),
        heads=whole(config, "mamba_n_heads", 128),
        head_dim=whole(config, "mamba_d_head") or inner // max(1, whole(config, "mamba_n_heads", 128)),
        state=whole(config, "mamba_d_state", 256),
        kernel=whole(config, "mamba_d_conv", 4),
    )


def granite_hybrid(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """granitemoehybrid.py; Bamba lists the layers of attention by number."""
    state, attention = _granite_state(config), numbers(config, "attn_layer_indices")
    types = for_each(config, "layer_types", layers) or for_each(config, "layers_block_type", layers)
    types = types or ["attention" if place in attention else "mamba" for place in range(layers)]
    return tuple((usual,) if str(word) in FULL_WORDS else (state,) for word in types)


def falcon_h1(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """Both in every layer (falcon_h1.py)."""
    return ((_granite_state(config), usual),) * layers


def nemotron_h(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """A letter a layer: M a state, * attention, the rest neither (nemotron_h.py). The recurrence is kept in float32
    unless the config says otherwise (models/config.py, NemotronHForCausalLMConfig).
    """
    heads, size = whole(config, "mamba_num_heads", 128), whole(config, "mamba_head_dim", 64)
    state = _mamba2(
        inner=heads * size,
        groups=whole(config, "n_groups", 8),
        heads=heads,
        head_dim=size,
        state=whole(config, "ssm_state_size", 128),
        kernel=whole(config, "conv_kernel", 4),
        wide=bytes_of(config.get("mamba_ssm_cache_dtype"), 4),
    )
    kinds: dict[str, tuple[LayerCache, ...]] = {"M": (state,), "mamba": (state,), "*": (usual,), "attention": (usual,)}
    letters = config.get("hybrid_override_pattern")
    words = list(letters) if isinstance(letters, str) else for_each(config, "layers_block_type", layers)
    words += ["-"] * (layers - len(words))
    return tuple(kinds.get(str(word), ()) for word in words[:layers])


def zamba2(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """A state in every layer, and in the hybrid ones shared attention too (zamba2.py)."""
    heads = whole(config, "n_mamba_heads", 8)
    inner = whole(config, "mamba_expand", 2) * whole(config, "hidden_size")
    state = _mamba2(
        inner=inner,
        groups=whole(config, "mamba_ngroups", 1),
        heads=heads,
        head_dim=whole(config, "mamba_headdim") or inner // heads,
        state=whole(config, "mamba_d_state", 64),
        kernel=whole(config, "mamba_d_conv", 4),
    )
    size = whole(config, "attention_head_dim") or 2 * usual.key_dim
    attention = replace(usual, key_dim=size, value_dim=size)
    types = for_each(config, "layers_block_type", layers) or for_each(config, "layer_types", layers)
    shared = numbers(config, "hybrid_layer_ids")
    hybrid = [word == "hybrid" for word in types] or [place in shared for place in range(layers)]
    return tuple((attention, state) if is_hybrid else (state,) for is_hybrid in hybrid)


def short_convolution(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """lfm2.py: the width is conv_dim, or the model's."""
    rows = whole(config, "conv_dim") or whole(config, "hidden_size")
    state = StateCache(parts=(StatePart(rows=rows, columns=whole(config, "conv_L_cache", 3) - 1),))
    attention = numbers(config, "full_attn_idxs")
    types = for_each(config, "layer_types", layers)
    types = types or ["full_attention" if place in attention else "conv" for place in range(layers)]
    return tuple((usual,) if str(word) in FULL_WORDS else (state,) for word in types)


def delta_net(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """qwen3_next.py, gated_delta_net_state_shape; Qwen3.5 names the recurrence's precision in its config."""
    keys = whole(config, "linear_num_key_heads", 16) * whole(config, "linear_key_head_dim", 128)
    value_heads, value_dim = whole(config, "linear_num_value_heads", 32), whole(config, "linear_value_head_dim", 128)
    state = StateCache(
        parts=(
            StatePart(rows=2 * keys + value_heads * value_dim, columns=whole(config, "linear_conv_kernel_dim", 4) - 1),
            StatePart(rows=value_heads, columns=value_dim * whole(config, "linear_key_head_dim", 128), recurrent=True,
                      element_bytes=bytes_of(config.get("mamba_ssm_dtype"), 0)),
        )
    )  # fmt: skip
    types = for_each(config, "layer_types", layers)
    if not types:
        every = whole(config, "full_attention_interval", 4)
        types = ["full_attention" if (place + 1) % every == 0 else "linear_attention" for place in range(layers)]
    return tuple((usual,) if str(word) in FULL_WORDS else (state,) for word in types)


def kimi_linear(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """Latent attention, and a delta net whose recurrence is kept in float32 (layers/mamba/mamba_utils.py,
    kda_state_shape); the layers of each are listed by number, from 1.
    """
    part = config.get("linear_attn_config")
    inner: Config = part if isinstance(part, dict) else {}
    heads, size = whole(inner, "num_heads", 32), whole(inner, "head_dim", 128)
    state = StateCache(
        parts=(
            StatePart(rows=3 * heads * size, columns=whole(inner, "short_conv_kernel_size", 4) - 1),
            StatePart(rows=heads, columns=size * size, recurrent=True, element_bytes=4),
        )
    )
    linear = numbers(inner, "kda_layers")
    whole_caches = latent(config, usual, layers)
    return tuple((state,) if place + 1 in linear else whole_caches[place] for place in range(layers))
