"""The numbers of a model's config in, its `Architecture` out; or a `ModelAccessError` that names the senseless one.

Knows the names that families of models call their sizes by; opens no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.cache_families import STATES_ALONE, guess_at, layer_caches
from aim_engine.catalog.config_numbers import MOST, Config, whole
from aim_engine.errors import ModelAccessError

# What the shape's numbers are called: by most models first, then by older families.
_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups"),
    "head_dim": ("head_dim", "hidden_size_per_head", "kv_channels"),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    "max_context": ("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "kv_lora_rank": ("kv_lora_rank",),
    "qk_rope_head_dim": ("qk_rope_head_dim",),
    "expert_width": ("moe_intermediate_size",),
}
# What publishers leave out of a config.json because transformers has it as the family's default (its 5.19).
_LEFT_OUT: dict[str, dict[str, Any]] = {
    "gemma2": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
               "max_position_embeddings": 8192, "sliding_window": 4096},
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208,
                    "max_position_embeddings": 131072, "sliding_window": 4096},
    "gemma3n_text": {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 262400,
                     "max_position_embeddings": 32768, "sliding_window": 512},
}  # fmt: skip
_NO_LIMIT = 2048  # what vLLM serves a model with that names no longest context (config/model.py)
MOST_LAYERS = 10_000  # beyond, a config is not to be believed
_NEVER_NOTHING = ("layers", "hidden_size", "vocab_size")
_OWN_HEAD_SIZE = ("head_dim", "kv_channels", "d_kv")  # parts of the names by which a head's size is given


def check_shape(config: Config, path: Path) -> None:
    """Refuse what no model can have; a number that is merely not there, or one for each layer, says nothing.

    Raises:
        ModelAccessError: the file, the number's name in it, and the number.
    """
    if complaint := next(_senseless(config), None):
        raise ModelAccessError(f"{path}: {complaint}", hint="no engine can serve that: download the model again")


def _senseless(config: Config) -> Iterator[str]:
    for field, names in _NAMES.items():
        least = 1 if field in _NEVER_NOTHING else 0
        for name in names:
            value = config.get(name)
            if isinstance(value, (str, bool)) or (isinstance(value, (int, float)) and value < least):
                yield f"{name} is {value!r:.40}, and it must be a whole number of at least {least}"
            elif isinstance(value, (int, float)) and value > MOST:
                yield f"{name} is {value!r:.40}, and no model has more than {MOST:,}"
    yield from _not_dividing(config, "kv_heads", "attention_heads")
    if not any(part in name for name in config for part in _OWN_HEAD_SIZE if config[name] is not None):
        yield from _not_dividing(config, "attention_heads", "hidden_size")


def _not_dividing(config: Config, part: str, whole: str) -> Iterator[str]:
    part_name, divisor = _named(config, _NAMES[part])
    whole_name, number = _named(config, _NAMES[whole])
    if divisor and number and number % divisor:
        yield f"{part_name} is {divisor}, which does not divide {whole_name}, {number}"


def architecture(config: Config) -> Architecture | None:
    """The shape, or None where a number is missing: then nothing is said about memory."""
    config = {**_LEFT_OUT.get(str(config.get("model_type")), {}), **_given(config)}
    found = {field: _named(config, names)[1] or 0 for field, names in _NAMES.items()}
    layers, hidden, heads = found["layers"], found["hidden_size"], found["attention_heads"]
    if str(config.get("model_type")) in STATES_ALONE:
        found |= {"attention_heads": 0, "kv_heads": 0, "head_dim": 0}
        found["max_context"] = found["max_context"] or _NO_LIMIT
    elif not heads or not (found["head_dim"] or hidden // heads):
        return None
    else:
        found["head_dim"] = found["head_dim"] or hidden // heads
        found["kv_heads"] = 1 if _shares_one_head(config) else found["kv_heads"] or _inner_kv_heads(config) or heads
    if not (0 < layers <= MOST_LAYERS and hidden and found["vocab_size"] and found["max_context"]):
        return None
    found["intermediate_size"] = found["intermediate_size"] or 4 * hidden
    shape = Architecture(**found)  # type: ignore[arg-type]
    return replace(shape, caches=layer_caches(config, shape.main_cache, layers), guess=guess_at(config, layers))


def _given(config: Config) -> dict[str, Any]:
    return {name: value for name, value in config.items() if value is not None}


def _shares_one_head(config: Config) -> bool:
    """Falcon's older models and GPTBigCode (vllm/transformers_utils/model_arch_config_convertor.py)."""
    return config.get("multi_query") is True and not config.get("new_decoder_architecture")


def _inner_kv_heads(config: Config) -> int:
    """DBRX has them in a part of its own."""
    inner = config.get("attn_config")
    return whole(inner, "kv_n_heads") if isinstance(inner, dict) else 0


def _named(config: Config, names: Iterable[str]) -> tuple[str, int | None]:
    """The first of the names that holds a number above nothing, and that number."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return name, value
    return "", None
