"""The KV cache exactly as the engine reckons it: a model's layers and the arguments' terms in; blocks, tokens and
requests out. vLLM 0.32's rules (vllm/v1/kv_cache_interface.py, vllm/platforms/interface.py). Pure arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.layer_cache import LayerCache, StateCache, StatePart, TokenCache
from aim_engine.catalog.terms import ServingTerms
from aim_engine.selection.cache_groups import Group, Layer, Pages, grouped, of_one_type
from aim_engine.selection.stages import stages


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a cache holds: `blocks` of the pool, the `tokens` and the `concurrency` (requests of full length) that the
    engine's log names.
    """

    blocks: int
    tokens: int
    concurrency: float


@dataclass(frozen=True, kw_only=True)
class CachePool:
    """The pool of one GPU. `block_bytes` is a block of it, over all its layers; `groups` pairs the tables of blocks
    that a request needs with how many there are of each; `token_bytes` is what a token takes in all layers of a GPU
    while nothing is dropped.
    """

    block_bytes: int
    block_tokens: int
    groups: tuple[tuple[Pages, int], ...]
    in_flight_tokens: int
    token_bytes: int

    def blocks(self, tokens: int) -> int:
        """Blocks that one request of that length may come to hold."""
        return sum(self._blocks_of(pages, tokens) * count for pages, count in self.groups)

    def bytes_for(self, tokens: int, requests: int) -> int:
        """The smallest cache in which so many requests of that length fit at once; one block stays empty, vLLM's null
        block.
        """
        return (self.blocks(tokens) * requests + 1) * self.block_bytes if self.groups else 0

    def capacity(self, cache_bytes: int, context_tokens: int) -> Capacity:
        """What the engine says of a cache of so many bytes (get_kv_cache_capacity)."""
        if not self.groups:
            return Capacity(blocks=0, tokens=0, concurrency=0.0)
        blocks = max(0, cache_bytes) // self.block_bytes
        concurrency = blocks / self.blocks(context_tokens)
        return Capacity(blocks=blocks, tokens=int(concurrency * context_tokens), concurrency=concurrency)

    def longest(self, cache_bytes: int, requests: int, limit: int) -> int:
        """The longest context, up to the limit, of which so many requests fit; 0 where none does."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.bytes_for(middle, requests) <= cache_bytes:
                low = middle
            else:
                high = middle - 1
        return low

    def _blocks_of(self, pages: Pages, tokens: int) -> int:
        if pages.state_blocks:
            return pages.state_blocks
        if pages.window:  # and one more: a window need not begin where a block does
            return -(-min(pages.window - 1 + self.in_flight_tokens, tokens) // pages.block_tokens) + 1
        if pages.chunk:
            return -(-min(pages.chunk + self.in_flight_tokens, tokens) // pages.block_tokens)
        return -(-tokens // pages.block_tokens)


def cache_pool(shape: Architecture, terms: ServingTerms, tensor_parallel_size: int) -> CachePool | None:
    """The pool of the GPU that holds the most, or None where the engine could not lay it out."""
    reckoner = _Reckoner(shape=shape, terms=terms, width=tensor_parallel_size)
    layers = reckoner.layers()
    alike = layers if terms.hybrid_cache else of_one_type(layers)
    groups = grouped(alike) if alike is not None else None
    if groups is None:
        return None
    spans = stages(shape.layers, terms.pipeline_parallel_size)
    kinds: dict[Pages, int] = {}
    for group in groups:
        kinds[group[0][1]] = kinds.get(group[0][1], 0) + 1
    return CachePool(
        block_bytes=max((_bytes_in(span, group) for span in spans for group in groups), default=0),
        block_tokens=reckoner.block_tokens,
        groups=tuple(kinds.items()),
        in_flight_tokens=terms.batch_tokens * max(terms.in_flight_batches, terms.pipeline_parallel_size),
        token_bytes=max(_token_bytes(span, layers) for span in spans),
    )


def _bytes_in(span: range, group: Group) -> int:
    return sum(pages.page_bytes for number, pages in group if number in span)


def _token_bytes(span: range, layers: tuple[Layer, ...]) -> int:
    return sum(
        pages.page_bytes // pages.block_tokens for number, pages in layers if number in span and not pages.state_blocks
    )


@dataclass(frozen=True, kw_only=True)
class _Reckoner:
    """From a layer's elements to its pages, on one GPU of `width`."""

    shape: Architecture
    terms: ServingTerms
    width: int

    @property
    def main(self) -> TokenCache | None:
        """The layers of attention that the engine sizes its blocks by; None where there is no attention."""
        found = [cache for caches in self.shape.layer_caches for cache in caches if isinstance(cache, TokenCache)]
        unbounded = [cache for cache in found if not cache.window and not cache.chunk]
        return next(iter(unbounded or found), None)

    @property
    def block_tokens(self) -> int:
        """The block of the attention layers; beside states it grows until a page holds a state
        (Platform._align_hybrid_block_size).
        """
        main, terms = self.main, self.terms
        own = terms.latent_block_tokens if main is not None and main.latent else 0
        block = own or terms.block_tokens
        state = self._largest_state
        if main is None or not state:
            return block
        step = max(terms.kernel_block_tokens, block, 128 if main.latent else 0)
        needed = step * -(-state // (step * self._per_token(main)))
        return max(block, -(-needed // terms.kernel_block_tokens) * terms.kernel_block_tokens)

    def layers(self) -> tuple[Layer, ...]:
        """What each layer takes of the pool."""
        block, main = self.block_tokens, self.main
        padded = block * self._per_token(main) if main is not None else 0
        return tuple(
            (number, self._pages(cache, block, padded))
            for number, caches in enumerate(self.shape.layer_caches)
            for cache in caches
        )

    def _pages(self, cache: LayerCache, block: int, padded: int) -> Pages:
        if isinstance(cache, StateCache):
            # by a state that is kept twice prefixes are remembered (mamba_cache_mode "align")
            kept = 2 + cache.checkpoints if self._remembers else 1
            return Pages(block_tokens=block, page_bytes=max(padded, self._state_bytes(cache)), state_blocks=kept)
        return Pages(
            block_tokens=block,
            page_bytes=block * self._per_token(cache),
            window=cache.window,
            chunk=cache.chunk,
            latent=cache.latent,
            form=(cache.heads, cache.key_dim, cache.value_dim, cache.element_bytes),
        )

    @property
    def _remembers(self) -> bool:
        """Without attention prefixes are remembered only where that is asked for (is_prefix_caching_supported)."""
        asked = self.terms.prefix_caching
        return self.main is not None if asked is None else asked

    def _per_token(self, cache: TokenCache) -> int:
        """Fewer KV heads than GPUs are replicated (ModelConfig.get_num_kv_heads), a latent vector is on each."""
        if cache.latent and not cache.element_bytes and self.terms.latent_token_bytes:
            return self.terms.latent_token_bytes
        heads = cache.heads if cache.latent else max(1, cache.heads // self.width)
        return heads * (cache.key_dim + cache.value_dim) * (cache.element_bytes or self.terms.kv_element_bytes)

    @property
    def _largest_state(self) -> int:
        states = [cache for caches in self.shape.layer_caches for cache in caches if isinstance(cache, StateCache)]
        return max(map(self._state_bytes, dict.fromkeys(states)), default=0)

    def _state_bytes(self, cache: StateCache) -> int:
        return sum(self._part_bytes(part) for part in cache.parts)

    def _part_bytes(self, part: StatePart) -> int:
        groups = part.groups if part.groups % self.width == 0 else self.width  # or a head would be without its group
        rows = (part.rows + groups * part.group_rows) // self.width
        chosen = self.terms.recurrent_element_bytes if part.recurrent else 0
        return rows * part.columns * (chosen or part.element_bytes or self.terms.state_element_bytes)
