"""How partitions are made whole GPUs again: what may be said to whom. No AMD GPU was at hand to try it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.partitions import way_back
from tests.building import here

PART = replace(here("MI300X:1").gpus[0], partition="CPX/NPS4")
SPX = "sudo amd-smi set --compute-partition SPX"
NPS1 = "sudo amd-smi set --memory-partition NPS1"


@pytest.mark.parametrize("mode", ["DPX/NPS2", "CPX/NPS4", "QPX/NPS8"])
def test_a_divided_memory_is_made_one_first(mode: str) -> None:
    """The driver refuses SPX in any other memory mode (aqua_vanjaram.c, __aqua_vanjaram_is_valid_mode)."""
    said = way_back([replace(PART, partition=mode)])
    assert 0 < said.index(NPS1) < said.index(SPX)
    assert "reloads the driver" in said
    assert "while nothing uses a GPU" in said


def test_one_memory_needs_no_more_than_the_compute_mode() -> None:
    said = way_back([replace(PART, partition="CPX/NPS1")])
    assert SPX in said
    assert "NPS1" not in said


def test_an_unknown_memory_mode_is_asked_for() -> None:
    said = way_back([replace(PART, partition="CPX")])
    assert 0 < said.index("unless the memory mode is NPS1 already") < said.index(SPX)


@pytest.mark.parametrize("mode", ["CPX/NPS1", "CPX/NPS4", "CPX"])
def test_everybody_on_the_host_is_hit(mode: str) -> None:
    assert "resets the GPUs of everybody on that host" in way_back([replace(PART, partition=mode)])


@pytest.mark.parametrize("device_id", ["0x74b5", "0x74b6", "0x74b9", "0x75b0", "0x75b3"])
def test_a_guest_can_only_ask_the_hypervisors_administrator(device_id: str) -> None:
    assert way_back([replace(PART, device_id=device_id)]) == (
        "only the hypervisor's administrator can: these are virtual functions")  # fmt: skip


def test_a_gpu_of_no_known_id_is_no_guests() -> None:
    strange: list[Gpu] = [replace(PART, device_id=None), replace(PART, device_id="0xffff")]
    assert all(SPX in way_back([gpu]) for gpu in strange)
