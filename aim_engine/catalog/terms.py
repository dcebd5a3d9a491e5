"""What a variant's arguments mean for memory, in words that every backend shares.

A backend reads its own option names into these; the selection's ledger reckons with them. Neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class ServingTerms:
    """`context_tokens` is the arguments' own context length (None: the model's); `memory_fraction` the part of a
    device's memory the engine may take; `block_tokens` the KV cache's page; `batch_tokens` the most tokens in one
    step; `kv_element_bytes` the size of one cached number; `eager` that no graphs are captured; `host_memory` that the
    device is the host itself, whose memory the whole machine shares.

    `kernel_block_tokens` is the smallest page the kernels read, `latent_block_tokens` the page of latent attention
    where it has its own, `latent_token_bytes` what it takes for a token where that is packed. `in_flight_batches` are
    the steps that may be under way at once; `prefix_caching` whether prefixes are remembered (None: as the engine does
    when nobody says, beside attention but not of states alone); `hybrid_cache` that layers with windows drop what they
    no longer need. States are kept in `state_element_bytes`, their recurrent part in `recurrent_element_bytes` (0: as
    the model's family does). `cache_given` says that the arguments themselves give the KV cache its size. Where they
    leave its type open, `followed` are the methods of quantisation whose checkpoints' own word on it (ModelCard.cache)
    the engine heeds, `followed_if_latent` those beside latent attention. `others` are all arguments, by name, but those
    that are known to leave an engine's needs as they are; their values as text.

    With `static_share` the engine's share is one of what is free when it starts, and holds weights and KV cache alone;
    without, it is one of the whole, and holds everything.

    Experts are divided over `data_parallel_size` copies too; with `expert_parallel` a GPU has whole ones. Those in
    MXFP4 are padded until their sizes are multiples of `mxfp4_step` (0: they are not).
    """

    context_tokens: int | None
    memory_fraction: float
    block_tokens: int
    batch_tokens: int
    kv_element_bytes: int
    eager: bool
    host_memory: bool
    kernel_block_tokens: int = 16
    latent_block_tokens: int = 0
    latent_token_bytes: int = 0
    in_flight_batches: int = 1
    prefix_caching: bool | None = None
    hybrid_cache: bool = True
    state_element_bytes: int = 2
    recurrent_element_bytes: int = 0
    static_share: bool = False
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    expert_parallel: bool = False
    mxfp4_step: int = 0
    cache_given: bool = False
    followed: frozenset[str] = frozenset()
    followed_if_latent: frozenset[str] = frozenset()
    others: tuple[tuple[str, str], ...] = ()

    def of_checkpoint(self, method: str, cache: str, *, latent: bool) -> ServingTerms:
        """The same for a checkpoint that is quantised by that method and wants its KV cache kept in `cache`."""
        heeded = cache == "fp8" and method in (self.followed_if_latent if latent else self.followed)
        return replace(self, kv_element_bytes=1) if heeded else self
