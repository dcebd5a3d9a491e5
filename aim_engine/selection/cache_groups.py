"""How an engine shares one pool of KV cache blocks among layers that keep different things: layers in, groups out.

The rules are those of vLLM 0.32 (vllm/v1/core/kv_cache_utils.py, get_kv_cache_groups, for layouts with the layer
outermost, which are those of ROCm and the CPU). Pure arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Pages:
    """What one layer takes of the pool: `page_bytes` for each block of `block_tokens`. A `window` or a `chunk` bounds
    the blocks of a request; a state takes `state_blocks` for any request. `latent` pages cannot be padded. `form` tells
    layers apart whose pages are equal by chance.
    """

    block_tokens: int
    page_bytes: int
    window: int = 0
    chunk: int = 0
    state_blocks: int = 0
    latent: bool = False
    form: tuple[int, ...] = ()

    @property
    def _type(self) -> tuple[object, ...]:
        """Layers of one type need the same blocks, and may differ in their pages."""
        if self.state_blocks:
            return (self.state_blocks, self.page_bytes)
        return (0, self.window, self.chunk, self.block_tokens)


Layer = tuple[int, Pages]  # the layer's number, and what it takes
Group = tuple[Layer, ...]  # layers that share a table of blocks


def grouped(layers: tuple[Layer, ...]) -> tuple[Group, ...] | None:
    """The groups that share the pool, or None where the engine could not make their pages alike."""
    if not layers:
        return ()
    if len({pages._type for _, pages in layers}) == 1:
        return (layers,)
    alike = _unified(layers) or _promoted(layers)
    if alike is None or len({pages._type for _, pages in alike}) == 1:
        return None if alike is None else (alike,)
    return _split(alike)


def _unified(layers: tuple[Layer, ...]) -> tuple[Layer, ...] | None:
    """All pages as large as the largest: larger blocks where that divides, padding where not."""
    largest = max(pages.page_bytes for _, pages in layers)
    found = []
    for number, pages in layers:
        if largest % pages.page_bytes == 0 and not pages.state_blocks:
            times = largest // pages.page_bytes
            changed = replace(pages, page_bytes=largest, block_tokens=pages.block_tokens * times)
        elif pages.latent:
            return None
        else:
            changed = replace(pages, page_bytes=largest)
        found.append((number, changed))
    return tuple(found)


def _promoted(layers: tuple[Layer, ...]) -> tuple[Layer, ...] | None:
    """Windows beside latent attention are held as if they had no window."""
    if not any(pages.latent for _, pages in layers) or any(pages.state_blocks or pages.chunk for _, pages in layers):
        return None
    return without_bounds(layers)


def of_one_type(layers: tuple[Layer, ...]) -> tuple[Layer, ...] | None:
    """As the engine holds them without its hybrid manager: beside full attention every layer holds all tokens, and
    layers that are of several types even so are refused (unify_hybrid_kv_cache_specs).
    """
    full = any(not (pages.window or pages.chunk or pages.state_blocks) for _, pages in layers)
    alike = without_bounds(layers) if full else layers
    return alike if len({pages._type for _, pages in alike}) < 2 else None


def without_bounds(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Every layer holds all tokens."""
    return tuple((number, replace(pages, window=0, chunk=0)) for number, pages in layers)


def _split(layers: tuple[Layer, ...]) -> tuple[Group, ...]:
    """Groups of equally many layers: as many as the rarest kind has, or the commonest where they are nearly as many."""
    kinds: dict[Pages, list[Layer]] = {}
    for layer in layers:
        kinds.setdefault(layer[1], []).append(layer)
    fewest, most = min(map(len, kinds.values())), max(map(len, kinds.values()))
    size = most if most < fewest * 1.5 else fewest
    groups: list[Group] = []
    for members in kinds.values():
        count = -(-len(members) // size)
        groups += [tuple(members[place::count]) for place in range(count)]
    return tuple(groups)
