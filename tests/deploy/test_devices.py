"""How accelerators reach a container: device files, their groups, and the vendor's runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aim_engine.deploy.devices import device_files, device_groups, own_files, runtime_words
from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Gpu, Inventory
from tests.building import cpu_here
from tests.deploy.planning import planned, with_nodes


def with_ids(**changes: object) -> Inventory:
    found = with_nodes()
    gpus: list[Gpu] = [replace(gpu, unique_id=f"{gpu.index + 1:016x}") for gpu in found.gpus]
    return replace(found, gpus=tuple(replace(gpu, **changes) for gpu in gpus))  # type: ignore[arg-type]


def test_groups_are_read_where_the_devices_are() -> None:
    assert device_groups(planned()) is None  # declared: another host's
    assert device_groups(planned(on=cpu_here())) == ()
    if not Path("/dev/kfd").exists():
        assert device_groups(planned(on=with_nodes())) is None


def test_the_planned_gpus_own_files_only() -> None:
    plan = planned(gpu_count="2", on=with_nodes())
    nodes = tuple(str(gpu.render_node) for gpu in plan.winner.gpus)
    assert own_files(plan) == nodes
    assert device_files(plan) == ("/dev/kfd", *nodes)


def test_files_that_are_not_known_are_not_own() -> None:
    assert own_files(planned()) == ()
    assert own_files(planned(on=cpu_here())) == ()


def test_the_runtime_is_told_unique_ids() -> None:
    name, variables = runtime_words(planned(gpu_count="2", on=with_ids()))
    assert (name, variables) == ("amd", {"AMD_VISIBLE_DEVICES": "0x0000000000000001,0x0000000000000002"})


@pytest.mark.parametrize("on", [with_nodes(), with_ids(partition="CPX/NPS1"), cpu_here()])
def test_gpus_that_the_runtime_cannot_be_told(on: Inventory) -> None:
    plan = planned(gpu_count="1", on=on)
    with pytest.raises(InputError, match="runtime"):
        runtime_words(plan)
