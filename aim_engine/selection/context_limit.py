"""A candidate and the situation in, the longest context that the engine takes for the model out, in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.catalog.config_numbers import text_part, whole
from aim_engine.selection.candidate import Candidate, Situation

# In these the config's own longest context is the stretched one already, and vLLM 0.32 multiplies it with no factor
# (vllm/config/model.py, _get_and_verify_max_len).
_STRETCHED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
_MOST = 10_000  # a factor beyond is no factor


def context_limit(candidate: Candidate, situation: Situation) -> int | None:
    """The model's own, or what `hf-overrides` makes of it; None where nothing is known of the model."""
    card = situation.catalog.card
    if card is None or card.architecture is None:
        return None
    said = {**candidate.variant.args, **situation.request.engine_args}.get("hf-overrides")
    if not isinstance(said, Mapping):
        return card.architecture.max_context
    overrides = text_part({**said})
    own = whole(overrides, "max_position_embeddings", card.architecture.max_context)
    return int(own * _factor(overrides))


def _factor(overrides: Mapping[str, Any]) -> float:
    rope = overrides.get("rope_parameters") or overrides.get("rope_scaling")
    if not isinstance(rope, Mapping) or (rope.get("rope_type") or rope.get("type")) in _STRETCHED:
        return 1
    factor = rope.get("factor")
    return factor if isinstance(factor, (int, float)) and not isinstance(factor, bool) and 1 < factor < _MOST else 1
