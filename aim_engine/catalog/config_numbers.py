"""Single numbers out of a config that anybody may have written: what is no whole number counts as not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
MOST = 2**40  # no size of a model comes near, and products of a few such numbers can still be written down


_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")


def text_part(config: Config) -> Config:
    """The part of a config that describes the text tower, in a model that also sees or hears
    (vllm/transformers_utils/config.py, get_hf_text_config).
    """
    for name in _TEXT_PARTS:
        inner = config.get(name)
        if isinstance(inner, dict):
            return text_part(inner) if name == "thinker_config" else inner
    return config


def whole(config: Config, name: str, default: int = 0) -> int:
    """The config's number of that name, where it is a whole one above nothing and not beyond all sense."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST else default


def for_each(config: Config, name: str, layers: int) -> list[Any]:
    """The config's list of that name, where it has an entry for each layer; else nothing."""
    value = config.get(name)
    return value[:layers] if isinstance(value, list) and len(value) >= layers else []


def numbers(config: Config, name: str) -> list[int]:
    """The whole numbers in the config's list of that name."""
    value = config.get(name)
    return [one for one in value if type(one) is int] if isinstance(value, list) else []


def bytes_of(word: Any, otherwise: int = 0) -> int:
    """Bytes of an element in the precision of that name."""
    return {"float32": 4, "bfloat16": 2, "float16": 2}.get(str(word), otherwise)
