"""Which layers a stage of a pipeline holds: counts in, ranges of layers out. Pure arithmetic."""

from __future__ import annotations


def stages(layers: int, count: int) -> tuple[range, ...]:
    """As vLLM divides them: what does not divide goes to the stages before the last (vllm/distributed/utils.py,
    get_pp_indices).
    """
    each, over = divmod(layers, count)
    sizes = [each] * count
    for place in range(2, over + 2):
        sizes[-place] += 1
    starts = [sum(sizes[:place]) for place in range(count)]
    return tuple(range(start, start + size) for start, size in zip(starts, sizes, strict=True))
