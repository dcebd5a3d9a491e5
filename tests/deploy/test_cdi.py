"""GPUs by their names to the Container Device Interface, found by their device files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aim_engine.deploy.cdi import cdi_devices
from aim_engine.errors import DockerError, InputError
from tests.deploy.planning import cpu_plan, planned, with_nodes

# Numbered otherwise than the render nodes, as a toolkit may.
ORDER = {"0": 136, "1": 128, "2": 144}


def device(name: str, *minors: int) -> dict[str, Any]:
    nodes = [{"path": f"/dev/dri/renderD{minor}"} for minor in minors] + [{"path": "/dev/dri/card1"}]
    return {"name": name, "containerEdits": {"deviceNodes": nodes}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    devices = [device(name, minor) for name, minor in ORDER.items()] + [device("all", *ORDER.values())]
    (tmp_path / "amd.json").write_text(json.dumps({"kind": "amd.com/gpu", "devices": devices}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.yaml").write_text("kind: x.com/y\ndevices: [{name: a}]\n")
    (tmp_path / "bad.yaml").write_text("a: [")
    return tmp_path


def test_names_follow_the_device_files(folder: Path) -> None:
    plan = planned(gpu_count="2", on=with_nodes())
    assert cdi_devices(plan, {"CDISpecDirs": ["/nowhere", str(folder)]}) == ("amd.com/gpu=1", "amd.com/gpu=0")


def test_a_gpu_that_no_specification_has(folder: Path) -> None:
    with pytest.raises(DockerError, match="renderD152") as caught:
        cdi_devices(planned(gpu_count="4", on=with_nodes()), {"CDISpecDirs": [str(folder)]})
    assert "amd-ctk" in caught.value.hint


@pytest.mark.parametrize("info", [{}, {"CDISpecDirs": None}, {"CDISpecDirs": []}])
def test_an_engine_without_cdi(info: dict[str, Any]) -> None:
    with pytest.raises(DockerError, match="does not do CDI"):
        cdi_devices(planned(gpu_count="1", on=with_nodes()), info)


def test_devices_that_have_no_kind() -> None:
    with pytest.raises(InputError, match="no kind"):
        cdi_devices(cpu_plan(), {"CDISpecDirs": ["/etc/cdi"]})
