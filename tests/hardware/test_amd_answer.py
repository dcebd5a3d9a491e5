"""Reading the child's answer: device nodes as they are on a real host, and answers no library should give."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.hardware.amd.answer import read_answer
from aim_engine.hardware.amd.values import address, text, unique_id, whole
from aim_engine.hardware.inventory import Finding, Inventory
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
    assert [gpu.unusable for gpu in finding.gpus] == [None, "the render node /dev/dri/renderD128 is not here"]
    assert [gpu.pci_address for gpu in finding.gpus] == ["0000:15:00.0", "0000:05:00.0"]
    assert [gpu.index for gpu in finding.gpus] == [0, 1]  # the one that is ours is HIP's first
    assert "to open /dev/dri/renderD128: docker run" in finding.notes[0]


def test_a_closed_render_node_is_not_counted_either(plant: Plant) -> None:
    root = plant({"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD136": "", "recording.json": json.dumps(
        {"device_nodes": {"/dev/dri/renderD128": {"opens": False, "group": 44}}})})  # fmt: skip
    links = [{"of": [0, 1], "link": {"hops": 1, "type": 2}}]
    finding = read_answer({"gpus": [raw_gpu(0), raw_gpu(1)], "links": links}, root, check_nodes=True)
    assert [(gpu.index, gpu.kfd_node, gpu.usable, gpu.xgmi_peers) for gpu in finding.gpus] == [
        (0, 3, True, (1,)), (1, 2, False, (0,)),
    ]  # fmt: skip
    assert "--group-add 44" in finding.hint


def test_a_gpu_whose_kfd_node_may_not_be_read_is_another_containers(plant: Plant) -> None:
    """amdsmi may list what the device cgroup hides; its render nodes all being there is the host's /dev."""
    nodes = "sys/class/kfd/kfd/topology/nodes"
    root = plant({"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD136": "",
                  f"{nodes}/2/gpu_id": "", f"{nodes}/3/gpu_id": "1003"})  # fmt: skip
    finding = read_answer({"gpus": [raw_gpu(0), raw_gpu(1)]}, root, check_nodes=True)
    assert [(gpu.index, gpu.kfd_node) for gpu in finding.gpus] == [(0, 3), (1, 2)]
    assert finding.gpus[1].unusable == "its KFD node 2 is not ours to read: the container was started without it"
    assert all(gpu.usable for gpu in read_answer({"gpus": [raw_gpu(0)]}, root, check_nodes=False).gpus)


def test_only_those_that_are_counted_must_tell_their_kfd_node(plant: Plant) -> None:
    root = plant({"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD144": ""})
    answer = {"gpus": [raw_gpu(2), raw_gpu(1, kfd={}), raw_gpu(0)]}
    finding = read_answer(answer, root, check_nodes=True)
    assert [gpu.kfd_node for gpu in finding.gpus] == [2, 4, None]
    assert not any("HIP's" in note for note in finding.notes)


def test_a_gpu_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    links = [{"of": [1, 2], "link": {"hops": 1, "type": 2}}]
    same = [raw_gpu(0), raw_gpu(0), raw_gpu(1), raw_gpu(1, kfd={})]
    finding = read_answer({"gpus": same, "links": links}, tmp_path, check_nodes=False)
    assert [gpu.pci_address for gpu in finding.gpus] == ["0000:05:00.0", "0000:15:00.0"]
    assert finding.notes[0] == "amdsmi lists 2 of the 4 GPUs twice: each is counted once"
    # of those that tell nothing, nobody knows
    assert len(read_answer({"gpus": [{}, {}, raw_gpu()]}, tmp_path, check_nodes=False).gpus) == 3


def test_more_gpus_than_any_machine_has(tmp_path: Path) -> None:
    gpus = [raw_gpu(kfd={"node_id": place}, enumeration={}, bdf=None) for place in range(1030)]
    finding = read_answer({"gpus": gpus}, tmp_path, check_nodes=False)
    assert len(finding.gpus) == 1024
    assert "amdsmi lists 1030 GPUs: those after the first 1024 are left out" in finding.notes


@pytest.mark.parametrize("size", [1, 2**20 - 1, 2 * 206141652992 + 1, 2**59])
def test_a_size_that_cannot_be_is_not_believed(size: int, tmp_path: Path) -> None:
    finding = read_answer({"gpus": [raw_gpu(0), raw_gpu(1, memory_total=size)]}, tmp_path, check_nodes=False)
    assert finding.gpus[0].usable
    assert finding.gpus[1].unusable == (
        f"the size of its memory cannot be right: {size} bytes, and a MI300X has 206141652992"
    )
    alone = read_answer({"gpus": [raw_gpu(0, memory_total=size)]}, tmp_path, check_nodes=False)
    assert (alone.gpus, alone.blocking) == ((), True)


def test_a_size_that_nobody_says_is_the_products(tmp_path: Path) -> None:
    finding = read_answer({"gpus": [raw_gpu(0, memory_total=None)]}, tmp_path, check_nodes=False)
    (gpu,) = finding.gpus
    assert (gpu.memory_bytes, gpu.memory_free_bytes, gpu.usable) == (206141652992, None, True)
    assert "does not say how much memory 1 of the GPUs have: assumed" in finding.notes[0]


@pytest.mark.parametrize("device", ["0x9999", "0x1586"], ids=["an unknown product", "an APU"])
def test_without_a_size_to_assume_the_next_layer_is_asked(device: str, tmp_path: Path) -> None:
    raw = raw_gpu(0, memory_total=None, asic={"device_id": device})
    finding = read_answer({"gpus": [raw]}, tmp_path, check_nodes=False)
    assert (finding.gpus, finding.blocking) == ((), True)
    assert finding.reason.startswith("amdsmi lists AMD GPUs (1), but for none of them a size")
    two = read_answer({"gpus": [raw, raw_gpu(1)]}, tmp_path, check_nodes=False)
    assert sorted(gpu.unusable or "" for gpu in two.gpus) == ["", "the size of its memory is unknown"]


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


def test_what_no_gpu_says_of_itself(tmp_path: Path) -> None:
    """The process that asks is no holder; a library may give an odd link, a version may lack a part."""
    answer = {
        "gpus": [raw_gpu(holders=[{"pid": 7, "mem": 5}, {"pid": 8, "name": "N/A", "memory_usage": {"vram_mem": 6}}])],
        "asked_by": 7,
        "links": [{"of": [0, 5], "link": {"hops": 1, "type": 2}}, {"of": [0], "link": {"hops": 1, "type": 2}}],
        "library": {"major": 26, "minor": 0},
    }
    finding = read_answer(answer, tmp_path, check_nodes=False)
    assert [(holder.pid, holder.name, holder.memory_bytes) for holder in finding.gpus[0].holders] == [(8, "", 6)]
    assert (finding.gpus[0].xgmi_peers, finding.library_version) == ((), None)


@pytest.mark.parametrize(("hops", "kind", "peers"), [(1, 2, (1,)), (2, 2, ()), (1, 1, ())])
def test_peers_are_one_xgmi_hop_away(tmp_path: Path, hops: int, kind: int, peers: tuple[int, ...]) -> None:
    links = [{"of": [0, 1], "link": {"hops": hops, "type": kind}}]
    finding = read_answer({"gpus": [raw_gpu(0), raw_gpu(1)], "links": links}, tmp_path, check_nodes=False)
    assert finding.gpus[0].xgmi_peers == peers


def test_a_render_node_that_only_the_kernel_tells(plant: Plant) -> None:
    """Before ROCm 6.4 amdsmi does not say it."""
    root = plant({"dev/kfd": "", "sys/bus/pci/devices/0000:05:00.0/drm/renderD130/dev": "226:130"})
    finding = read_answer({"gpus": [raw_gpu(enumeration={})]}, root, check_nodes=True)
    assert finding.gpus[0].unusable == "the render node /dev/dri/renderD130 is not here"


def test_a_pipe_in_place_of_the_kernels_word_for_the_product_is_not_waited_for(plant: Plant) -> None:
    root = plant({"sys/bus/pci/devices/0000:05:00.0/revision": "0x00"})
    os.mkfifo(root / "sys/bus/pci/devices/0000:05:00.0/device")
    signal.alarm(10)
    finding = read_answer({"gpus": [raw_gpu(asic={}, memory_total=1 << 36)]}, root, check_nodes=False)
    signal.alarm(0)
    assert finding.gpus[0].product == "AMD GPU"


# Single values


@pytest.mark.parametrize("nothing", ["N/A", "n/a", " ", "0xffffffff", "18446744073709551615", "\x00", None, 5, b"x"])
def test_texts_that_say_nothing(nothing: object) -> None:
    assert text(nothing) is None


def test_what_cannot_be_printed_is_left_out_of_a_text() -> None:
    assert text("0\x1f0\x1b[2J") == "00[2J"
    assert text("\ud800MI300X") == "MI300X"


@pytest.mark.parametrize("nothing", [0xFFFFFFFF, 2**64 - 1, 2**61, -1, True, 1.5, "1"])
def test_numbers_that_say_nothing(nothing: object) -> None:
    assert whole(nothing) is None


def test_addresses_and_ids() -> None:
    assert (address("0000:C4:00.0"), address("10000:05:00.7")) == ("0000:c4:00.0", "10000:05:00.7")
    assert (address("../..:00.0"), address("0000:05:00.8"), address(5)) == (None, None, None)
    assert (unique_id("0x4162405E51BB99B0"), unique_id("ab")) == ("4162405e51bb99b0", "00000000000000ab")
    assert (unique_id("0x0000000000000000"), unique_id("N/A"), unique_id("0x" + "1" * 17)) == (None, None, None)


# Damage

GOOD: dict[str, Any] = {
    "gpus": [
        {
            **raw_gpu(place // 4),
            "asic": {
                "market_name": "AMD Instinct", "device_id": "0x74a1" if place < 4 else "0x9999", "rev_id": "0x00",
                "asic_serial": f"0x{place // 4 + 1:016X}", "num_compute_units": 76, "target_graphics_version": "gfx942",
            },
            "bdf": f"0000:{5 + 16 * (place // 4):02x}:00.{place % 4}",
            "kfd": {"kfd_id": 7, "node_id": 2 + place, "current_partition_id": place % 4},
            "vram": {"vram_size": 196592}, "usage": {"vram_total": 196592, "vram_used": 3},
            "compute_partition": "QPX" if place < 4 else "SPX", "memory_partition": "NPS1",
            "accelerator_partition": {"partition_id": [place % 4], "partition_profile": {"profile_type": "QPX"}},
            "uuid": "01ff74a1-0000-1000-8000-000000000001", "numa_node": 0,
            "errors": {"vram": {"type": "AmdSmiLibraryException", "code": 2, "text": "?"}},
            "vbios": {"version": "022.040", "part_number": "113-M3000100"},
            "firmware": {"fw_list": [{"fw_name": "AMDSMI_FW_ID_RLC", "fw_version": "17"}]},
            "holders": [{"pid": 4711, "name": "python", "mem": 5, "memory_usage": {"vram_mem": 4}}],
        }
        for place in range(8)
    ],
    "asked_by": 12,
    "driver": {"driver_version": "6.14.14"},
    "library": {"major": 26, "minor": 0, "release": 2},
    "links": [{"of": [0, 4], "link": {"hops": 1, "type": 2}}, {"of": [0, 1], "link": {"hops": 1, "type": 2}}],
    "unanswered": "amdsmi_get_fw_info of 0000:15:00.0",
}  # fmt: skip
FAILED: dict[str, Any] = {"stage": "init", "type": "AmdSmiLibraryException", "code": 34, "text": "no driver"}
REFUSED: dict[str, Any] = {"reason": "it is broken", "hint": "mend it"}
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**32 - 1, 2**61, 2**64 - 1, 10**40, -(10**40), 1.5, 1e308, "", "N/A", "0x", "../..",
    "a/b", "\x00", "\x1b[2J", "\ud800", "ﬀ", "٣", "x" * 5000, "CPX", "NPS2", "NPS٣", "gfx942", "0x" + "f" * 99, [], {},
    [[[[]]]], [None], {"code": 14}, {"value": {"value": 1}}, [0, 0], [{"pid": 1}, {"pid": 10**30, "name": "\x07"}],
)  # fmt: skip


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places_in(value[key])


def damage(answer: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    answer = copied(answer)
    for _ in range(chance.randint(1, 6)):
        places = list(places_in(answer))
        if not places:
            break
        container, key = chance.choice(places)
        odd = copied(chance.choice(ODD))
        match chance.randrange(5):
            case 0:
                del container[key]
            case 1:  # something from elsewhere in the answer
                other, other_key = chance.choice(places)
                container[key] = copied(other[other_key])
            case 2 if isinstance(container, dict):
                container[chance.choice(["gpus", "of", "asic", "reason", "stage", "\x00", "x" * 300])] = odd
            case _:
                container[key] = odd
    return answer


def copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_damaged_answers_become_inventories_that_can_be_recorded() -> None:
    """10,000 of them, the same ones every time."""
    chance = random.Random(20260101)
    found: list[Finding] = []
    for number in range(10_000):
        small = {**GOOD, "gpus": GOOD["gpus"][3 : 5 + number % 3]}
        answer = damage(chance.choice((small, small, small, FAILED, REFUSED)), chance)
        finding = read_answer(answer, Path("/nonexistent"), check_nodes=number % 2 == 0)
        assert bool(finding.gpus) != bool(finding.reason)
        assert finding.reason.isprintable()
        assert finding.hint.isprintable()
        assert [gpu.index for gpu in finding.gpus] == list(range(len(finding.gpus)))
        assert all(gpu.memory_bytes > 0 for gpu in finding.gpus if gpu.usable)
        if finding.gpus:
            found.append(finding)
    assert len(found) > 5_000
    for first in range(0, len(found), 100):
        assert_can_be_recorded(found[first : first + 100])


def assert_can_be_recorded(findings: Sequence[Finding]) -> None:
    """All of them as one inventory, because reading one costs 7 ms whatever its size."""
    gpus = [gpu for finding in findings for gpu in finding.gpus]
    versions = [version for found in findings for version in (found.driver_version, found.library_version) if version]
    inventory = Inventory(
        source="amdsmi",
        gpus=tuple(replace(gpu, index=index) for index, gpu in enumerate(gpus)),
        notes=(*(note for finding in findings for note in finding.notes), *versions),
    )
    assert Inventory.from_json(json.dumps(inventory.as_json()), where="the test") == inventory
