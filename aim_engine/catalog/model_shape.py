"""The numbers of a model's config in, its `Architecture` out; or a `ModelAccessError` that names the senseless one.

Knows the names that families of models call their sizes by; opens no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aim_engine.catalog.model_card import Architecture
from aim_engine.errors import ModelAccessError

# What the shape's numbers are called: by most models first, then by older families.
_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("num_key_value_heads", "multi_query_group_num"),
    "head_dim": ("head_dim",),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    "max_context": ("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "kv_lora_rank": ("kv_lora_rank",),
    "qk_rope_head_dim": ("qk_rope_head_dim",),
}
_NEVER_NOTHING = ("layers", "hidden_size", "vocab_size")
_OWN_HEAD_SIZE = ("head_dim", "kv_channels", "d_kv")  # parts of the names by which a head's size is given


def check_shape(config: Mapping[str, Any], path: Path) -> None:
    """Refuse what no model can have; a number that is merely not there, or one for each layer, says nothing.

    Raises:
        ModelAccessError: the file, the number's name in it, and the number.
    """
    if complaint := next(_senseless(config), None):
        raise ModelAccessError(f"{path}: {complaint}", hint="no engine can serve that: download the model again")


def _senseless(config: Mapping[str, Any]) -> Iterator[str]:
    for field, names in _NAMES.items():
        least = 1 if field in _NEVER_NOTHING else 0
        for name in names:
            value = config.get(name)
            if isinstance(value, (str, bool)) or (isinstance(value, (int, float)) and value < least):
                yield f"{name} is {value!r:.40}, and it must be a whole number of at least {least}"
    yield from _not_dividing(config, "kv_heads", "attention_heads")
    if not any(part in name for name in config for part in _OWN_HEAD_SIZE if config[name] is not None):
        yield from _not_dividing(config, "attention_heads", "hidden_size")


def _not_dividing(config: Mapping[str, Any], part: str, whole: str) -> Iterator[str]:
    part_name, divisor = _named(config, _NAMES[part])
    whole_name, number = _named(config, _NAMES[whole])
    if divisor and number and number % divisor:
        yield f"{part_name} is {divisor}, which does not divide {whole_name}, {number}"


def architecture(config: Mapping[str, Any]) -> Architecture | None:
    """The shape, or None where a number is missing: then nothing is said about memory."""
    found = {field: _named(config, names)[1] for field, names in _NAMES.items()}
    heads, hidden = found["attention_heads"], found["hidden_size"]
    needed = ("layers", "hidden_size", "attention_heads", "vocab_size", "max_context")
    if any(not found[field] for field in needed) or not heads or not hidden:
        return None
    head_dim = found["head_dim"] or hidden // heads
    if not head_dim:
        return None
    return Architecture(
        layers=found["layers"] or 0,
        hidden_size=hidden,
        attention_heads=heads,
        kv_heads=found["kv_heads"] or heads,
        head_dim=head_dim,
        vocab_size=found["vocab_size"] or 0,
        intermediate_size=found["intermediate_size"] or 4 * hidden,
        max_context=found["max_context"] or 0,
        experts=found["experts"] or 0,
        kv_lora_rank=found["kv_lora_rank"] or 0,
        qk_rope_head_dim=found["qk_rope_head_dim"] or 0,
    )


def _named(config: Mapping[str, Any], names: Iterable[str]) -> tuple[str, int | None]:
    """The first of the names that holds a number above nothing, and that number."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return name, value
    return "", None
