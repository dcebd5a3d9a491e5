"""Which GPUs reach each other without leaving XGMI: hives, and how they are written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aim_engine.hardware.inventory import Surroundings
from aim_engine.hardware.kfd.detector import KfdDetector
from aim_engine.hardware.links import hives, in_ranges, xgmi_in_words
from tests.building import here
from tests.fakes.trees import plant_host, read_host

EIGHT = here("MI300X:8").gpus


def linked(*pairs: tuple[int, int]) -> list[list[int]]:
    peers = {place: {a for pair in pairs if place in pair for a in pair if a != place} for place in range(8)}
    gpus = [replace(gpu, xgmi_peers=tuple(sorted(peers[gpu.index]))) for gpu in EIGHT]
    return [[gpu.index for gpu in hive] for hive in hives(gpus)]


def test_what_is_linked_over_others_is_one_hive() -> None:
    assert linked((0, 1), (1, 2), (6, 5)) == [[0, 1, 2], [3], [4], [5, 6], [7]]


def test_a_peer_that_is_not_asked_about_links_nobody() -> None:
    assert [len(hive) for hive in hives([replace(EIGHT[0], xgmi_peers=(7,)), replace(EIGHT[1], xgmi_peers=(7,))])] == [
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("mi210", "0-3, 4-7"),
        ("mi250x", "0-7"),
        ("mi300x-spx", "0-7"),
        ("mi300x-cpx-nps4", "0-63"),
        ("mi300x-vf-cpx", ""),
        ("mixed", "0-1"),
        ("rx-7900-xtx", ""),
    ],
)
def test_the_hives_of_a_host_in_words(host: str, words: str, tmp_path: Path) -> None:
    root = plant_host(read_host(host), tmp_path)
    assert xgmi_in_words(KfdDetector().detect(Surroundings(root=root, environment={})).gpus) == words


def test_gpus_that_the_engine_does_not_see_have_no_number_to_be_named_by(tmp_path: Path) -> None:
    root = plant_host(read_host("mi210"), tmp_path)
    found = KfdDetector().detect(Surroundings(root=root, environment={"HIP_VISIBLE_DEVICES": "0,1,4"}))
    assert xgmi_in_words(found.gpus) == "0-1"


@pytest.mark.parametrize(("numbers", "text"), [([0], "0"), ([0, 1, 2, 5], "0-2,5"), ([3, 1], "1,3"), ([], "")])
def test_numbers_in_ranges(numbers: list[int], text: str) -> None:
    assert in_ranges(numbers) == text
