"""Device nodes: what counts as closed, and what opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aim_engine.hardware.device_nodes import closed, group_of, is_sign_of_gpu, remedy
from tests.hardware.conftest import Plant


@pytest.mark.parametrize(
    "sign", ["dev/kfd", "sys/module/amdgpu/initstate", "sys/class/kfd/kfd/topology/system_properties"]
)
def test_each_sign_alone_is_one(plant: Plant, sign: str) -> None:
    root = plant({"dev/null": ""})
    assert not is_sign_of_gpu(root)
    plant({sign: ""})
    assert is_sign_of_gpu(root)


def test_a_node_that_is_not_there_is_closed_unless_that_is_fine(plant: Plant) -> None:
    root = plant({"dev/kfd": ""})
    assert closed(root, "/dev/kfd") == ""
    assert closed(root, "/dev/dri/renderD128") == "is not here"
    assert closed(root, "/dev/dri/renderD128", missing_is_fine=True) == ""


def test_the_group_of_a_node(plant: Plant) -> None:
    root = plant({"dev/kfd": ""})
    assert group_of(root, "/dev/kfd") == (root / "dev/kfd").stat().st_gid
    assert group_of(Path("/nonexistent"), "/dev/kfd") is None


def test_the_remedy_names_each_node_and_each_group_once() -> None:
    text = remedy(["/dev/kfd", "/dev/dri/renderD128", "/dev/kfd"], [109, None, 44, 109])
    assert text.startswith("to open /dev/kfd, /dev/dri/renderD128: docker run --device /dev/kfd --device /dev/dri")
    assert "/dev/dri --group-add 44 --group-add 109, or on a host join" in text
