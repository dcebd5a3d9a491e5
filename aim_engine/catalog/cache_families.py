"""Which rule tells what each layer of a model keeps: a config in, a cache for each layer out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aim_engine.catalog import attention_layers as attention
from aim_engine.catalog import state_layers as state
from aim_engine.catalog.architecture import Guess
from aim_engine.catalog.attention_layers import Rule
from aim_engine.catalog.config_numbers import Config, for_each
from aim_engine.catalog.layer_cache import LayerCaches, TokenCache

_RULES: tuple[tuple[Rule, str], ...] = (
    (attention.plain,
     "llama mistral mixtral gemma phi phi3 phimoe granite granitemoe olmo olmo2 olmoe gpt_neox gpt2 gptj gpt_bigcode "
     "falcon starcoder2 opt bloom mpt stablelm glm glm4 glm4_moe ernie4_5 ernie4_5_moe seed_oss smollm3 apertus "
     "nemotron internlm2 exaone solar dbrx chatglm cohere minimax_m2 minicpm3 arcee hunyuan_v1_dense hunyuan_v1_moe "
     "jais2 ministral3 granitemoeshared hyperclovax gpt-sw3 ministral nanochat persimmon biogpt"),
    (attention.window_if_used, "qwen2 qwen2_moe qwen3 qwen3_moe qwen2_vl qwen2_5_vl qwen2_vl_text qwen2_5_vl_text "
     "qwen3_vl_text qwen3_vl_moe_text"),
    (attention.every_other(2), "gemma2 vaultgemma"),
    (attention.every_other(6), "gemma3_text gemma3"),
    (attention.every_other(4, plus=1), "cohere2 cohere2_moe"),
    (attention.every_other(4), "olmo3 afmoe exaone_moe cwm granite_swa granitemoe_swa"),
    (attention.exaone4, "exaone4"),
    (attention.gpt_oss, "gpt_oss"),
    (attention.gemma3n, "gemma3n_text"),
    (attention.gemma4, "gemma4_text"),
    (attention.llama4, "llama4_text"),
    (attention.mimo_v2, "mimo_v2 mimo_v2_flash"),
    (attention.latent, "deepseek_v2 deepseek_v3 kimi_k2 glm4_moe_lite axk1 hy_v4 youtu"),
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


# Layers of kinds that the rule for a plain transformer understands.
_PLAIN_WORDS = frozenset({*attention.FULL_WORDS, "sliding_attention"})
# Parts of a config's names that speak of layers with a state instead of attention.
_OF_STATES = re.compile(r"(^|_)(ssm|mamba|conv|rwkv|linear_attn|linear_attention|recurrent|retention|delta_?net)(_|$)")
_LISTS_OF_KINDS = ("layer_types", "layers_block_type", "block_types")


def guess_at(config: Config, layers: int) -> Guess | None:
    """Why the caches of this config are no more than a guess; None where its family is listed."""
    family = config.get("model_type")
    if str(family) in _BY_KIND:
        return None
    kinds = next((found for name in _LISTS_OF_KINDS if (found := for_each(config, name, layers))), [])
    odd = frozenset(number for number, kind in enumerate(kinds) if str(kind) not in _PLAIN_WORDS)
    words = [str(kinds[number])[:40] for number in sorted(odd)]
    words += sorted(str(name)[:40] for name, value in config.items() if value and _OF_STATES.search(str(name)))
    # where only a name speaks of states, any layer may be one
    unsure = odd or (frozenset(range(layers)) if words and not kinds else frozenset())
    named = family[:60] if isinstance(family, str) else ""
    return Guess(family=named, signs=tuple(dict.fromkeys(words))[:_MOST_SIGNS], unsure_layers=unsure)


_MOST_SIGNS = 4  # as many as a sentence can hold
