"""Groups of equal GPUs: what counts as equal, which group is the largest, and memory that several share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.selection.groups import choice_in_words, equal_groups, memory_of, sharers, spread
from tests.building import GIB, here

MI300X = here("MI300X:1").gpus[0]


def words(inventory: Inventory) -> list[str]:
    return [f"{len(group)} {group[0].product} {group[0].partition or 'whole'}" for group in equal_groups(inventory)]


def of(*gpus: Gpu) -> Inventory:
    return Inventory(source="amdsmi", gpus=tuple(replace(gpu, index=place) for place, gpu in enumerate(gpus)))


def part(pool: str | None = None, mode: str = "CPX/NPS1", free: int | None = None) -> Gpu:
    size = 192 * GIB if pool else 24 * GIB
    return replace(MI300X, memory_bytes=size, partition=mode, memory_pool=pool, memory_free_bytes=free)


@pytest.mark.parametrize(
    ("wish", "order"),
    [
        ("MI300X:4,MI210:2", ["4 MI300X whole", "2 MI210 whole"]),
        ("MI210:2,MI300X:4", ["4 MI300X whole", "2 MI210 whole"]),
        ("MI300X:4,MI325X:4", ["4 MI325X whole", "4 MI300X whole"]),  # of as many, those with more memory
        ("MI210:2,MI250:2", ["2 MI210 whole", "2 MI250 whole"]),  # of as many with as much, the first
        ("MI250:2,MI210:2", ["2 MI250 whole", "2 MI210 whole"]),
        ("MI300X:1,MI210:1,MI300X:1", ["2 MI300X whole", "1 MI210 whole"]),
    ],
)
def test_the_largest_group_comes_first(wish: str, order: list[str]) -> None:
    assert words(here(wish)) == order


def test_the_parts_of_one_gpu_are_no_more_than_that_gpu() -> None:
    parts = [replace(part(mode="CPX/NPS4"), package="0000:05:00.0") for _ in range(8)]
    others = [replace(part(mode="CPX/NPS4"), package="0000:15:00.0") for _ in range(8)]
    assert words(of(*parts, MI300X, MI300X)) == ["2 MI300X whole", "8 MI300X CPX/NPS4"]
    assert words(of(*parts, MI300X)) == ["8 MI300X CPX/NPS4", "1 MI300X whole"]
    assert words(of(*parts, MI300X, MI300X, *others)) == ["16 MI300X CPX/NPS4", "2 MI300X whole"]


def test_unusable_gpus_are_in_no_group() -> None:
    assert words(here("MI300X:3,MI210:2", unusable={0: "closed", 1: "closed"})) == ["2 MI210 whole", "1 MI300X whole"]
    assert equal_groups(here("MI300X:1", unusable={0: "closed"})) == ()


def test_parts_are_no_equals_of_whole_gpus_nor_of_other_parts() -> None:
    mixed = of(MI300X, part(mode="CPX/NPS4"), part(mode="CPX/NPS4"), replace(part(mode="DPX/NPS2")))
    assert words(mixed) == ["2 MI300X CPX/NPS4", "1 MI300X whole", "1 MI300X DPX/NPS2"]


def test_a_gpu_that_does_not_tell_its_mode_is_a_whole_one() -> None:
    assert words(of(MI300X, replace(MI300X, partition="SPX/NPS1"))) == ["2 MI300X whole"]


@pytest.mark.parametrize(("memory", "groups"), [(0.995, 1), (1.005, 1), (0.98, 2), (0.5, 2)])
def test_memory_is_the_same_to_one_percent(memory: float, groups: int) -> None:
    other = replace(MI300X, memory_bytes=int(MI300X.memory_bytes * memory))
    assert len(equal_groups(of(MI300X, other))) == groups


def test_a_shared_memory_counts_once() -> None:
    assert memory_of([MI300X, MI300X]) == 2 * MI300X.memory_bytes
    assert memory_of([part("a"), part("a"), part("b")]) == 2 * 192 * GIB
    # two whole GPUs have more memory than two partitions that report one shared memory each
    assert words(of(part("a"), part("a"), MI300X, MI300X))[0] == "2 MI300X whole"


def test_sharers() -> None:
    both = [part("a"), part("a"), part("b"), MI300X]
    assert [sharers(gpu, both) for gpu in both] == [2, 2, 1, 1]


def test_one_in_each_memory_before_a_second_in_any() -> None:
    group = of(part("a"), part("a"), part("a"), part("b"), part("b"), part("b")).gpus
    assert [gpu.index for gpu in spread(group)] == [0, 3, 1, 4, 2, 5]
    freer = of(part("a", free=9 * GIB), part("a", free=9 * GIB), part("b", free=90 * GIB)).gpus
    assert [gpu.index for gpu in spread(freer)] == [2, 0, 1]
    alone = of(part(free=9 * GIB), part(free=20 * GIB), part(free=9 * GIB)).gpus
    assert [gpu.index for gpu in spread(alone)] == [1, 0, 2]


def test_what_is_said_of_several_kinds() -> None:
    mixed = here("MI300X:4,MI210:2")
    assert choice_in_words(mixed, mixed.gpus[:1]) == (
        "here are 4 x MI300X and 2 x MI210: the 4 x MI300X, the largest group of equal GPUs, are used")  # fmt: skip
    assert choice_in_words(mixed, mixed.gpus[4:]) == (
        "here are 4 x MI300X and 2 x MI210: the 2 x MI210 are used, though they are not the largest group of equal "
        "GPUs: no recipe fits that")  # fmt: skip
    assert choice_in_words(here(), here().gpus) == ""
    cut = of(MI300X, part(), part())
    assert choice_in_words(cut, cut.gpus[1:]).startswith("here are 2 x MI300X (CPX/NPS1) and 1 x MI300X: the 2 x")
