"""Device nodes: what counts as closed, and what opens them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from aim_engine.hardware.device_nodes import closed, group_of, is_here, is_sign_of_gpu, remedy
from aim_engine.hardware.kfd.read import _Reader, read_tree
from tests.hardware.conftest import Nobody, Plant


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


def test_a_folder_that_may_not_be_searched_is_closed_with_its_own_group(open_folder: Path, nobody: Nobody) -> None:
    for name in ("dev/dri/renderD128", "dev/kfd"):
        (open_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (open_folder / name).touch(mode=0o666)
    os.chown(open_folder / "dev/dri", 0, 44)
    (open_folder / "dev/dri").chmod(0o750)
    with nobody():
        assert closed(open_folder, "/dev/dri/renderD128") == "cannot be opened: permission denied"
        assert closed(open_folder, "/dev/dri/renderD128", missing_is_fine=True) == "cannot be opened: permission denied"
        assert group_of(open_folder, "/dev/dri/renderD128") == 44
        assert is_here(open_folder, "/dev/dri/renderD128")
        told = read_tree(str(open_folder))
        reader_says = _Reader(str(open_folder)).device_node("/dev/dri/renderD128")
    assert told["kfd_nodes"] is None
    assert reader_says == {"present": True, "opens": False, "group": 44, "mode": None}
    assert group_of(open_folder, "/dev/dri/renderD128") == 0


def test_a_closed_folder_holds_no_sign(open_folder: Path, nobody: Nobody) -> None:
    (open_folder / "dev/kfd").mkdir(parents=True)
    (open_folder / "dev").chmod(0o700)
    with nobody():
        assert not is_sign_of_gpu(open_folder)
        assert closed(open_folder, "/dev/kfd") == "cannot be opened: permission denied"


def test_a_loop_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "dev").symlink_to("dev")
    assert closed(tmp_path, "/dev/kfd") == "is not here"
    assert group_of(tmp_path, "/dev/kfd") is None
    assert not is_here(tmp_path, "/dev/kfd")


def test_the_remedy_names_each_node_and_each_group_once() -> None:
    text = remedy(["/dev/kfd", "/dev/dri/renderD128", "/dev/kfd"], [109, None, 44, 109])
    assert text.startswith("to open /dev/kfd, /dev/dri/renderD128: docker run --device /dev/kfd --device /dev/dri")
    assert "/dev/dri --group-add 44 --group-add 109, or on a host join" in text


def test_a_pipe_in_place_of_what_the_recording_says_is_not_waited_for(plant: Plant) -> None:
    root = plant({"dev/kfd": ""})
    os.mkfifo(root / "recording.json")
    signal.alarm(10)
    assert closed(root, "/dev/kfd") == ""
    signal.alarm(0)
