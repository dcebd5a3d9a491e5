"""A model's config in; whether its embedding and its head are one table out. Opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TIED_FAMILIES = frozenset(
    [
        "gemma",
        "gemma2",
        "gemma3_text",
        "gemma3n_text",
        "gemma4_text",
        "cohere",
        "cohere2",
        "falcon",
        "gpt2",
        "gpt_bigcode",
        "bloom",
        "opt",
        "mpt",
        "lfm2",
        "smollm3",
        "starcoder2",
        "mamba",
    ]
)


def is_tied(config: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    """By the config or its text tower's part; where neither says, its family's default (transformers)."""
    said = next((one["tie_word_embeddings"] for one in (text, config) if "tie_word_embeddings" in one), None)
    return said is True if said is not None else str(text.get("model_type")) in _TIED_FAMILIES
