"""What a variant's arguments mean for memory, in words that every backend shares.

A backend reads its own option names into these; the selection's ledger reckons with them. Neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServingTerms:
    """`context_tokens` is the arguments' own context length (None: the model's); `memory_fraction` the part of a
    device's memory the engine may take; `block_tokens` the KV cache's page; `batch_tokens` the most tokens in one
    step; `kv_element_bytes` the size of one cached number; `eager` that no graphs are captured; `host_memory` that the
    device is the host itself, whose memory the whole machine shares.
    """

    context_tokens: int | None
    memory_fraction: float
    block_tokens: int
    batch_tokens: int
    kv_element_bytes: int
    eager: bool
    host_memory: bool
