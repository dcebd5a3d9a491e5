"""A recipe's vLLM arguments in, what their sizes say against each other out. Asks no engine and knows no model.

These are the checks of vLLM's SchedulerConfig.verify_max_model_len (vllm/config/scheduler.py), which it makes only
once a model is being loaded, of what the recipe itself gives: defaults differ by GPU and version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aim_engine.backends.base import Complaint
from aim_engine.catalog.recipe import ArgumentValue


def size_complaints(args: Mapping[str, ArgumentValue]) -> Iterator[Complaint]:
    """Steps that are too small for the requests at once, or for a whole prompt where none is cut."""
    step, seqs, context = (_whole(args.get(name)) for name in
                           ("max-num-batched-tokens", "max-num-seqs", "max-model-len"))  # fmt: skip
    if step is None:
        return
    key = "args.max-num-batched-tokens"
    if seqs is not None and step < seqs:
        sentence = f"must be at least max-num-seqs, {seqs}, found {step}: each request gets a token a step"
        yield Complaint(key=key, kind="value", sentence=sentence)
    if context is not None and args.get("enable-chunked-prefill") is False and step < context:
        sentence = f"must be at least max-model-len, {context}, found {step}, where enable-chunked-prefill is false"
        yield Complaint(key=key, kind="value", sentence=f"{sentence}; raise it, or let prompts be cut")


def _whole(value: ArgumentValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
