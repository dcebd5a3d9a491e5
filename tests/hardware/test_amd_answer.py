"""Reading the child's answer: device nodes as they are on a real host, and answers no library should give."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.hardware.amd_answer import _text, read_answer
from aim_engine.hardware.inventory import Inventory
from tests.hardware.conftest import Plant


def raw_gpu(position: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "asic": {"device_id": "0x74a1", "rev_id": "0x00", "num_compute_units": 304},
        "memory_total": 206141652992,
        "memory_used": 0,
        "kfd": {"node_id": 2 + position},
        "enumeration": {"drm_render": 128 + 8 * position},
        "bdf": f"0000:{5 + 16 * position:02x}:00.0",
        **more,
    }


def test_openable_nodes_make_usable_gpus(plant: Plant) -> None:
    root = plant({"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD136": ""})
    finding = read_answer({"gpus": [raw_gpu(0), raw_gpu(1)]}, root, check_nodes=True)
    assert all(gpu.usable for gpu in finding.gpus)
    assert not finding.notes


def test_a_container_that_was_given_one_render_node_of_two(plant: Plant) -> None:
    root = plant({"dev/kfd": "", "dev/dri/renderD136": ""})
    finding = read_answer({"gpus": [raw_gpu(0), raw_gpu(1)]}, root, check_nodes=True)
    assert [gpu.unusable for gpu in finding.gpus] == ["the render node /dev/dri/renderD128 is not here", None]
    assert "to open /dev/dri/renderD128: docker run" in finding.notes[0]


def test_without_dev_kfd_no_gpu_is_usable(plant: Plant) -> None:
    finding = read_answer({"gpus": [raw_gpu()]}, plant({"dev/dri/renderD128": ""}), check_nodes=True)
    assert finding.gpus[0].unusable == "/dev/kfd is not here"
    assert "to open /dev/kfd, /dev/dri/renderD128: docker run --device /dev/kfd" in finding.notes[0]


@pytest.mark.parametrize("code", [10, 14])
def test_a_refused_asic_query_means_a_closed_node_even_if_it_has_no_number(plant: Plant, code: int) -> None:
    raw = raw_gpu(asic=None, enumeration=None, errors={"asic": {"code": code}})
    finding = read_answer({"gpus": [raw]}, plant({"dev/kfd": ""}), check_nodes=True)
    assert finding.gpus[0].unusable == "the render node of this GPU cannot be opened"
    assert "/dev/dri/renderD*" in finding.notes[0]


def test_groups_are_named_by_number_once(plant: Plant) -> None:
    root = plant({"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD136": ""})
    refused = {"errors": {"asic": {"code": 14}}, "asic": {}}
    finding = read_answer({"gpus": [raw_gpu(0, **refused), raw_gpu(1, **refused)]}, root, check_nodes=True)
    assert finding.notes[0].count("--group-add") == 1
    assert f"--group-add {os.getgid()}" in finding.notes[0]


def test_a_missing_kfd_node_leaves_the_order_and_says_so(tmp_path: Path) -> None:
    finding = read_answer({"gpus": [raw_gpu(1, kfd={}), raw_gpu(0)]}, tmp_path, check_nodes=False)
    assert [gpu.pci_address for gpu in finding.gpus] == ["0000:15:00.0", "0000:05:00.0"]
    assert "may not be HIP's" in finding.notes[0]


@pytest.mark.parametrize("answer", [{}, {"gpus": None}, {"gpus": {}}, {"gpus": [1]}, {"gpus": ["MI300X"]}])
def test_answers_without_a_list_of_gpus(answer: dict[str, Any], tmp_path: Path) -> None:
    finding = read_answer(answer, tmp_path, check_nodes=False)
    assert finding.blocking
    assert "cannot be read" in finding.reason


def test_an_unforeseen_status_is_passed_on(tmp_path: Path) -> None:
    failure = {"stage": "init", "type": "AmdSmiLibraryException", "code": 18, "text": "AMDSMI_STATUS_INIT_ERROR"}
    finding = read_answer(failure, tmp_path, check_nodes=False)
    assert finding.reason == "amdsmi failed to init with status 18: AMDSMI_STATUS_INIT_ERROR"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["N/A", "../..", 0xFFFFFFFF]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*raw_gpu(), "errors", "vram", "usage", "uuid", "compute_partition", "memory_partition"])


@given(st.lists(st.dictionaries(KEYS, JSON), min_size=1, max_size=3))
def test_any_answer_becomes_gpus_that_can_be_recorded(raw_gpus: list[dict[str, Any]]) -> None:
    finding = read_answer({"gpus": raw_gpus}, Path("/nonexistent"), check_nodes=True)
    inventory = Inventory(source=finding.source, gpus=finding.gpus, notes=finding.notes)
    assert [gpu.index for gpu in inventory.gpus] == list(range(len(raw_gpus)))
    assert Inventory.from_json(json.dumps(inventory.as_json()), where="the test") == inventory
    assert all(gpu.memory_bytes > 0 for gpu in inventory.usable_gpus)


def test_what_cannot_be_printed_is_left_out_of_a_text() -> None:
    assert _text("0\x1f0\x1b[2J") == "00[2J"
    assert _text("\x00") is None
