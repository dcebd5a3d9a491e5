"""Which rule tells what each layer of a model keeps: a config in, a cache for each layer out."""

from __future__ import annotations

from collections.abc import Mapping

from aim_engine.catalog import attention_layers as attention
from aim_engine.catalog import state_layers as state
from aim_engine.catalog.attention_layers import Rule
from aim_engine.catalog.config_numbers import Config
from aim_engine.catalog.layer_cache import LayerCaches, TokenCache

_RULES: tuple[tuple[Rule, str], ...] = (
    (attention.plain,
     "llama mistral mixtral gemma phi phi3 phimoe granite granitemoe olmo olmo2 olmoe gpt_neox gpt2 gptj gpt_bigcode "
     "falcon starcoder2 opt bloom mpt stablelm glm glm4 glm4_moe ernie4_5 ernie4_5_moe seed_oss smollm3 apertus "
     "nemotron internlm2 exaone solar dbrx chatglm cohere minimax_m2 minicpm3"),
    (attention.window_if_used, "qwen2 qwen2_moe qwen3 qwen3_moe qwen2_vl qwen2_5_vl qwen2_vl_text qwen2_5_vl_text "
     "qwen3_vl_text qwen3_vl_moe_text"),
    (attention.every_other(2), "gemma2"),
    (attention.every_other(6), "gemma3_text gemma3"),
    (attention.every_other(4, plus=1), "cohere2 cohere2_moe"),
    (attention.every_other(4), "olmo3 afmoe exaone_moe"),
    (attention.exaone4, "exaone4"),
    (attention.gpt_oss, "gpt_oss"),
    (attention.gemma3n, "gemma3n_text"),
    (attention.gemma4, "gemma4_text"),
    (attention.llama4, "llama4_text"),
    (attention.mimo_v2, "mimo_v2 mimo_v2_flash"),
    (attention.latent, "deepseek_v2 deepseek_v3 kimi_k2 glm4_moe_lite"),
    (attention.latent_indexed, "deepseek_v32 glm_moe_dsa"),
    (state.mamba, "mamba falcon_mamba"),
    (state.mamba2_alone, "mamba2"),
    (state.jamba, "jamba"),
    (state.granite_hybrid, "granitemoehybrid bamba"),
    (state.falcon_h1, "falcon_h1"),
    (state.nemotron_h, "nemotron_h"),
    (state.zamba2, "zamba2"),
    (state.short_convolution, "lfm2 lfm2_moe"),
    (state.delta_net, "qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe_text olmo_hybrid"),
    (state.kimi_linear, "kimi_linear"),
)  # fmt: skip
_BY_KIND: Mapping[str, Rule] = {kind: rule for rule, kinds in _RULES for kind in kinds.split()}
STATES_ALONE = frozenset({"mamba", "falcon_mamba", "mamba2"})  # no attention, and so no numbers of heads


def layer_caches(config: Config, usual: TokenCache, layers: int) -> LayerCaches:
    """For each of the layers, what it keeps. `usual` is a layer of full attention with the config's main numbers.

    A family that nobody lists is taken to be what its numbers look like: latent attention, or a plain transformer with
    the window its config names.
    """
    looks_like = attention.latent if usual.latent else attention.plain
    return _BY_KIND.get(str(config.get("model_type")), looks_like)(config, usual, layers)


def is_known(config: Config) -> bool:
    """Whether the family is listed, so that its caches are more than a guess."""
    return str(config.get("model_type")) in _BY_KIND
