"""Which GPUs are free, and what is said of those that are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.deploy.allocation import A_LITTLE_BYTES, allocate
from aim_engine.deploy.endpoints import Endpoint, endpoint_of
from aim_engine.errors import InputError, NoAcceleratorError
from aim_engine.hardware.inventory import Holder, Inventory
from tests.building import GIB, cpu_here
from tests.deploy.planning import with_nodes


def endpoint(
    *gpus: str, state: str = "running", name: str = "aim-engine-x", count: str = "", devices: tuple[str, ...] = ()
) -> Endpoint:
    labels = {"ai.aim-engine.model": "Qwen/Qwen3-32B", "ai.aim-engine.gpus": ",".join(gpus)}
    labels |= {"ai.aim-engine.gpu-count": count} if count else {}
    host = {"Devices": [{"PathOnHost": path, "PathInContainer": path} for path in devices]}
    return endpoint_of({"Name": f"/{name}", "Id": "f" * 64, "Config": {"Labels": labels}, "HostConfig": host,
                        "State": {"Status": state}})  # fmt: skip


def addresses(inventory: Inventory) -> list[str]:
    return [str(gpu.pci_address) for gpu in inventory.gpus]


def changed(inventory: Inventory, index: int, **changes: Any) -> Inventory:
    gpus = tuple(replace(gpu, **changes) if gpu.index == index else gpu for gpu in inventory.gpus)
    return replace(inventory, gpus=gpus)


HOST = with_nodes("MI300X:4")


def test_all_are_free() -> None:
    found = allocate(HOST, [])
    assert found.held == {}
    assert found.inventory == HOST
    assert [gpu.index for gpu in found.free] == [0, 1, 2, 3]


@pytest.mark.parametrize("state", ["running", "created", "restarting", "paused", "removing", "unknown"])
def test_a_container_holds_what_its_label_names(state: str) -> None:
    one, two = addresses(HOST)[1:3]
    found = allocate(HOST, [endpoint(one, two.upper(), state=state)])
    assert [gpu.index for gpu in found.free] == [0, 3]
    assert "aim-engine-x" in found.held[1]
    assert state in found.held[2]
    assert found.inventory.gpus[1].unusable == found.held[1]


@pytest.mark.parametrize("state", ["exited", "dead"])
def test_one_that_has_ended_holds_nothing(state: str) -> None:
    assert allocate(HOST, [endpoint(*addresses(HOST), state=state)]).held == {}


def test_a_uuid_names_a_gpu_too() -> None:
    found = allocate(changed(HOST, 2, uuid="GPU-abc"), [endpoint("gpu-ABC")])
    assert set(found.held) == {2}


def test_a_label_of_another_host_s_gpus_holds_nothing() -> None:
    assert allocate(HOST, [endpoint("0000:ff:00.0", "", "odd text")]).held == {}


@pytest.mark.parametrize("written", ["01:00.0", "0000:01:00.0", "00000000:01:00.0", " 0000:01:00.0 ", "0:1:0.0"])
def test_an_address_is_the_same_however_it_is_written(written: str) -> None:
    assert set(allocate(HOST, [endpoint(written)]).held) == {1}
    lettered = changed(HOST, 1, pci_address="0001:0a:00.0")
    assert set(allocate(lettered, [endpoint("0001:0A:00.0")]).held) == {1}
    assert allocate(lettered, [endpoint("0a:00.0")]).held == {}


def test_several_addresses_with_spaces_between() -> None:
    assert set(allocate(HOST, [endpoint("01:00.0  02:00.0", count="2")]).held) == {1, 2}


# --- containers that do not say which ----------------------------------------------------------------------------

NODES = tuple(str(gpu.render_node) for gpu in HOST.gpus)


@pytest.mark.parametrize("one", [
    endpoint(count="2", devices=("/dev/kfd", *NODES[1:3])),
    endpoint("which?", count="2", devices=NODES[1:3]),
    endpoint("01:00.0", count="2", devices=NODES[1:3]),
    endpoint(devices=NODES[1:3]),
])  # fmt: skip
def test_the_devices_it_was_given_tell_which_it_has(one: Endpoint) -> None:
    found = allocate(HOST, [one])
    assert set(found.held) == {1, 2}
    assert found.cautions == (
        "the container aim-engine-x does not say which GPUs it has: "
        "GPUs 1, 2 count as its, by the devices it was given",
    )


def test_the_folder_of_all_devices_is_all_of_them_unless_it_says_which() -> None:
    assert set(allocate(HOST, [endpoint(count="2", devices=("/dev/kfd", "/dev/dri"))]).held) == {0, 1, 2, 3}
    said = allocate(HOST, [endpoint("00:00.0", "01:00.0", count="2", devices=("/dev/kfd", "/dev/dri"))])
    assert (set(said.held), said.cautions) == ({0, 1}, ())


def test_a_device_is_held_even_if_the_label_names_another() -> None:
    """As after a reboot that numbered them anew."""
    assert set(allocate(HOST, [endpoint("00:00.0", count="1", devices=(NODES[3],))]).held) == {0, 3}


@pytest.mark.parametrize("one", [
    endpoint(count="8", name="g"),
    endpoint("which?", count="1", name="g"),
    endpoint("00:00.0", count="2", name="g"),
    endpoint(count="1", name="g", devices=("/dev/kfd", "/dev/fuse", "/dev/dri/renderD9999")),
])  # fmt: skip
def test_without_either_none_is_known_to_be_free(one: Endpoint) -> None:
    with pytest.raises(NoAcceleratorError, match="and not which") as caught:
        allocate(HOST, [endpoint("03:00.0"), one])
    assert caught.value.code == 20
    assert "aim-engine stop g;" in caught.value.hint
    assert len(caught.value.details) == 1
    assert caught.value.details[0].startswith(f"the container g (Qwen/Qwen3-32B, running) says {one.gpu_count}")


def test_it_hinders_nobody_who_wants_no_gpu_or_finds_none() -> None:
    vague = endpoint(count="8")
    assert allocate(cpu_here(), [vague]).held == {}
    assert len(allocate(HOST, [endpoint(*addresses(HOST), name="all"), vague]).held) == 4
    assert allocate(HOST, [endpoint(count="8", state="exited")]).held == {}
    assert allocate(HOST, [endpoint("0000:ff:00.0", count="1")]).held == {}  # of other hardware, and it says so


@pytest.mark.parametrize(("size", "is_held"), [(A_LITTLE_BYTES + 1, True), (A_LITTLE_BYTES, False)])
def test_another_process_holds_it(size: int, is_held: bool) -> None:
    found = allocate(changed(HOST, 0, holders=(Holder(pid=7, name="python3", memory_bytes=size),)), [])
    assert (set(found.held) == {0}) is is_held
    if is_held:
        assert "pid 7 (python3, 2.0 GiB)" in found.held[0]


@pytest.mark.parametrize(("used", "is_held"), [(A_LITTLE_BYTES + 1, True), (283 * 2**20, False)])
def test_memory_in_use_by_nobody_known(used: int, is_held: bool) -> None:
    size = HOST.gpus[0].memory_bytes
    assert bool(allocate(changed(HOST, 0, memory_free_bytes=size - used), []).held) is is_held


def test_of_a_small_gpu_a_little_is_less() -> None:
    small = changed(HOST, 0, memory_bytes=8 * GIB, memory_free_bytes=7 * GIB)
    assert set(allocate(small, []).held) == {0}


def test_a_shared_memory_says_nothing_of_one_partition() -> None:
    shared = changed(HOST, 0, memory_pool="0000:05:00.0", memory_free_bytes=GIB, partition="CPX/NPS1")
    assert allocate(shared, []).held == {}
    held = changed(shared, 0, holders=(Holder(pid=7, name="", memory_bytes=9 * GIB),))
    assert "of unknown name" in allocate(held, []).held[0]


def test_the_host_s_processor_serves_several() -> None:
    busy = changed(cpu_here(), 0, memory_free_bytes=1)
    assert allocate(busy, [endpoint("cpu")]).held == {}
    assert allocate(busy, []).free == ()


def test_one_that_was_unusable_stays_so_for_its_own_reason() -> None:
    broken = changed(HOST, 1, unusable="its render node cannot be opened")
    found = allocate(broken, [endpoint(addresses(HOST)[1])])
    assert found.held == {}
    assert found.inventory.gpus[1].unusable == "its render node cannot be opened"


def test_the_error_of_a_busy_host_says_who_holds_what() -> None:
    found = allocate(HOST, [endpoint(*addresses(HOST)[:3])])
    error = found.busy(NoAcceleratorError("2 GPUs were asked for, and 1 x MI300X is what is usable here"), 2)
    assert error.code == 20
    assert error.message == "2 GPUs were asked for, and 1 of 4 is free"
    assert len(error.details) == 3
    assert error.details[0].startswith("GPU 0: the container aim-engine-x has it")
    assert "aim-engine stop" in error.hint


def test_other_errors_and_a_free_host_s_pass() -> None:
    other, none = InputError("x"), NoAcceleratorError("y")
    assert allocate(HOST, [endpoint(*addresses(HOST))]).busy(other, 1) is other
    assert allocate(HOST, []).busy(none, 9) is none
