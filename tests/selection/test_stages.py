"""How layers are divided among the stages of a pipeline."""

from __future__ import annotations

import pytest

from aim_engine.selection.stages import stages


@pytest.mark.parametrize(
    ("layers", "count", "sizes"),
    [(32, 1, [32]), (32, 2, [16, 16]), (61, 2, [31, 30]), (61, 4, [15, 15, 16, 15]), (7, 4, [2, 2, 2, 1])],
)
def test_what_does_not_divide_goes_to_the_stages_before_the_last(layers: int, count: int, sizes: list[int]) -> None:
    found = stages(layers, count)
    assert [len(span) for span in found] == sizes
    assert [number for span in found for number in span] == list(range(layers))
