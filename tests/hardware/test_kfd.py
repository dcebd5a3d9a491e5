"""The KFD layer over recorded hosts: every description in tests/hosts says what must be found on it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aim_engine.errors import InputError, NoAcceleratorError
from aim_engine.hardware.cpu import CpuDetector
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Finding, Firmware, Gpu, Holder, Inventory, Surroundings
from aim_engine.hardware.kfd.detector import KfdDetector, understand
from aim_engine.hardware.kfd.read import read_tree
from tests.fakes.trees import NODES, host_names, plant_host, read_host

HOSTS = host_names()


def found_on(root: Path, **environment: str) -> Finding:
    return KfdDetector().detect(Surroundings(root=root, environment=environment))


def edit(root: Path, path: str, old: str, new: str) -> None:
    file = root / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


# How a key of a host's `expected` is read off the finding.
def told(finding: Finding, gpus: tuple[Gpu, ...], key: str, expected: Any) -> Any:
    first = gpus[0]
    pools = Counter(gpu.memory_pool for gpu in gpus if gpu.memory_pool)
    peers = [gpu for gpu in gpus if gpu.index in first.xgmi_peers]
    answers: Mapping[str, Any] = {
        "products": dict(Counter(gpu.product for gpu in gpus if gpu.usable)),
        "unusable": sum(not gpu.usable for gpu in gpus),
        "addresses": [gpu.pci_address for gpu in gpus],
        "render": [int((gpu.render_node or "D0").rpartition("D")[2]) for gpu in gpus],
        "partition_ids": [gpu.partition_id for gpu in gpus],
        "numa_nodes": [gpu.numa_node for gpu in gpus],
        "packages": len({gpu.package for gpu in gpus}),
        "pools": len(pools),
        "pool_size": max(pools.values(), default=0),
        "peers_of_0": list(first.xgmi_peers),
        "peer_packages_of_0": len({gpu.package for gpu in peers}),
        "unique_ids": len({gpu.unique_id for gpu in gpus if gpu.unique_id}),
        "driver": finding.driver_version,
    }
    place, _, plain = key.partition("_")
    if place in ("first", "last"):
        values = answers[plain]
        return values[: len(expected)] if place == "first" else values[-len(expected) :]
    if key == "partition_ids":
        return answers[key][: len(expected)]
    if key in answers:
        return answers[key]
    values = {getattr(gpu, key) for gpu in gpus}
    return values.pop() if len(values) == 1 else values


@pytest.mark.parametrize("name", [name for name in HOSTS if "error" not in read_host(name)["expected"]])
def test_a_recorded_host_gives_the_inventory_that_is_written_beside_it(name: str, tmp_path: Path) -> None:
    host = read_host(name)
    finding = found_on(plant_host(host, tmp_path))
    expected = dict(host["expected"])
    for pattern in expected.pop("notes", ["^$"]):
        assert re.search(pattern, "\n".join(finding.notes)), finding.notes
    assert re.search(expected.pop("reason", "^$|none of the"), finding.reason)
    assert re.search(expected.pop("hint", ""), finding.hint)
    expected.setdefault("unusable", 0)
    expected.setdefault("pools", 0)
    assert {key: told(finding, finding.gpus, key, value) for key, value in expected.items()} == expected
    assert not finding.blocking
    assert [gpu.index for gpu in finding.gpus] == list(range(len(finding.gpus)))
    nodes = [gpu.kfd_node or 0 for gpu in finding.gpus if gpu.usable]
    assert nodes == sorted(nodes)
    assert all(gpu.usable for gpu in finding.gpus[: len(nodes)])  # those that are not ours have no number of HIP's
    inventory = Inventory(source="kfd", gpus=finding.gpus, notes=finding.notes)
    assert Inventory.from_json(json.dumps(inventory.as_json()), where="here") == inventory


@pytest.mark.parametrize("name", [name for name in HOSTS if "error" in read_host(name)["expected"]])
def test_a_recorded_host_without_a_usable_gpu_says_which_of_the_reasons_it_is(name: str, tmp_path: Path) -> None:
    host = read_host(name)
    root, expected = plant_host(host, tmp_path), host["expected"]
    finding = found_on(root)
    assert finding.gpus == ()
    assert expected["error"] in finding.reason
    assert expected["hint"] in finding.hint
    layers = (KfdDetector(), CpuDetector())
    if "falls_to" in expected:
        assert detect("detect", Surroundings(root=root, environment={}), detectors=layers).gpus[0].product == "CPU"
    else:
        with pytest.raises(NoAcceleratorError, match=re.escape(expected["error"])):
            detect("detect", Surroundings(root=root, environment={}), detectors=layers)


def test_every_host_names_the_source_of_its_values() -> None:
    assert [name for name in HOSTS if len(read_host(name).get("synthetic", "")) < 30] == []
    wanted = {"mi300x-spx", "mi300x-cpx-nps4", "mi300x-cpx-nps1", "mi308x-cpx", "mi210", "mi250x", "mi350x"}
    assert wanted | {"rx-7900-xtx", "strix-halo"} <= set(HOSTS)


def test_partitions_of_a_package_share_its_id_and_have_nodes_of_their_own(tmp_path: Path) -> None:
    gpus = found_on(plant_host(read_host("mi300x-cpx-nps4"), tmp_path)).gpus
    assert len({gpu.unique_id for gpu in gpus}) == 8
    assert all(gpu.unique_id and re.fullmatch("[0-9a-f]{16}", gpu.unique_id) for gpu in gpus)
    assert len({gpu.pci_address for gpu in gpus}) == len({gpu.render_node for gpu in gpus}) == 64
    assert {gpu.package for gpu in gpus[:8]} == {"0000:05:00.0"}


def test_the_environments_variables_choose_among_the_gpus(tmp_path: Path) -> None:
    root = plant_host(read_host("mi210"), tmp_path)
    finding = found_on(root, HIP_VISIBLE_DEVICES="2,0")
    assert [gpu.pci_address for gpu in finding.gpus if gpu.usable] == ["0000:03:00.0", "0000:63:00.0"]
    assert finding.visibility == ("HIP_VISIBLE_DEVICES=2,0",)
    with pytest.raises(InputError, match="differ"):
        found_on(root, HIP_VISIBLE_DEVICES="2", CUDA_VISIBLE_DEVICES="1")


def test_who_holds_memory(tmp_path: Path) -> None:
    root = plant_host(read_host("mi300x-spx"), tmp_path)
    for path, text in {
        "sys/class/kfd/kfd/proc/4711/vram_1002": "1048576\n",
        "sys/class/kfd/kfd/proc/4711/vram_1003": "0\n",
        "sys/class/kfd/kfd/proc/4712/vram_1002": "17\n",
        "sys/class/kfd/kfd/proc/4712/vram_9999": "18\n",
        "sys/class/kfd/kfd/proc/self/vram_1002": "19\n",
        "proc/4711/comm": "VLLM::Worker\x1b[0m\n",
        "proc/self/ns/x": "",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    # counted as the host counts them, so a name is only known where that is how we count as well
    assert found_on(root).gpus[0].holders == (
        Holder(pid=4711, name="", memory_bytes=1048576),
        Holder(pid=4712, name="", memory_bytes=17),
    )
    (root / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    assert found_on(root).gpus[0].holders[0].name == "VLLM::Worker[0m"
    assert found_on(root).gpus[1].holders == ()


def test_firmware_and_the_revision_that_tells_products_apart(tmp_path: Path) -> None:
    root = plant_host(read_host("rx-7900-xtx"), tmp_path)
    edit(root, f"{NODES}/2/properties", "domain 0", "domain 0\nfw_version 2460\nsdma_fw_version 21")
    edit(root, f"{NODES}/2/properties", "simd_count 192", "simd_count 168")
    edit(root, "sys/class/drm/renderD128/device/revision", "0xc8", "0xcc")
    (gpu,) = found_on(root).gpus
    assert gpu.firmware == (Firmware(name="mec", version="2460"), Firmware(name="sdma", version="21"))
    assert gpu.product == "RX 7900 XT"


@pytest.mark.parametrize(
    ("version", "gfx"),
    [("90402", "gfx942"), ("90010", "gfx90a"), ("110501", "gfx1151"), ("120500", "gfx1250"), ("90099", "gfx1100"),
     ("0", "gfx1100"), ("x", "gfx1100"), ("99999999999", "gfx1100")],
)  # fmt: skip
def test_the_instruction_set_is_decoded_or_else_the_products(version: str, gfx: str, tmp_path: Path) -> None:
    root = plant_host(read_host("rx-7900-xtx"), tmp_path)
    edit(root, f"{NODES}/2/properties", "gfx_target_version 110000", f"gfx_target_version {version}")
    assert found_on(root).gpus[0].gfx == gfx


def test_a_product_that_nobody_knows_is_named_by_its_id(tmp_path: Path) -> None:
    root = plant_host(read_host("rx-7900-xtx"), tmp_path)
    edit(root, f"{NODES}/2/properties", "device_id 29772", "device_id 39321")
    (gpu,) = found_on(root).gpus
    assert (gpu.product, gpu.device_id, gpu.memory_bytes) == ("AMD GPU 0x9999", "0x9999", 25753026560)


def test_the_memory_of_the_device_stands_in_for_absent_banks_of_a_whole_gpu_alone(tmp_path: Path) -> None:
    root = plant_host(read_host("rx-7900-xtx"), tmp_path / "whole")
    edit(root, f"{NODES}/2/mem_banks/0/properties", "heap_type 1", "heap_type 0")
    assert found_on(root).gpus[0].memory_bytes == 25753026560
    edit(root, "sys/class/drm/renderD128/device/mem_info_vram_total", "25753026560", "much")
    assert found_on(root).gpus[0].unusable == "the size of its memory is unknown"
    root = plant_host(read_host("mi300x-dpx-nps2"), tmp_path / "part")
    edit(root, f"{NODES}/2/mem_banks/0/properties", "heap_type 1", "heap_type 0")
    assert [gpu.unusable for gpu in found_on(root).gpus] == ["the size of its memory is unknown", None, None, None]


def test_a_gpu_whose_render_node_is_not_named_or_not_there_is_listed_last_and_unusable(tmp_path: Path) -> None:
    root = plant_host(read_host("mi210"), tmp_path)
    before = found_on(root).gpus
    edit(root, f"{NODES}/2/properties", "drm_render_minor 128", "drm_render_minor 0")
    (root / "dev/dri/renderD129").unlink()
    gpus = found_on(root).gpus
    assert [gpu.kfd_node for gpu in gpus] == [4, 5, 6, 7, 8, 9, 2, 3]
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert gpus[6].unusable == "the driver names no render node for it"
    assert gpus[7].unusable == "the render node /dev/dri/renderD129 is not here"
    nodes_before = {gpu.kfd_node: {before[peer].kfd_node for peer in gpu.xgmi_peers} for gpu in before}
    assert {gpu.kfd_node: {gpus[peer].kfd_node for peer in gpu.xgmi_peers} for gpu in gpus} == nodes_before


@pytest.mark.parametrize("what", ["gpu_id", "drm_render_minor"])
def test_a_gpu_that_is_there_twice_is_one(what: str, tmp_path: Path) -> None:
    root = plant_host(read_host("mi210"), tmp_path)
    if what == "gpu_id":
        (root / f"{NODES}/3/gpu_id").write_text("1002\n")
    else:
        edit(root, f"{NODES}/3/properties", "drm_render_minor 129", "drm_render_minor 128")
    finding = found_on(root)
    assert [gpu.kfd_node for gpu in finding.gpus] == [2, 4, 5, 6, 7, 8, 9]
    assert "kfd lists 1 of the 8 GPUs twice: each is counted once" in finding.notes


@pytest.mark.parametrize("size", ["1048575", str(2 * 68719476736 + 1)])
def test_a_size_that_cannot_be_is_not_believed(size: str, tmp_path: Path) -> None:
    root = plant_host(read_host("mi210"), tmp_path)
    bank = root / f"{NODES}/2/mem_banks/0/properties"
    bank.write_text(f"heap_type 1\nsize_in_bytes {size}\n")
    gpu = found_on(root).gpus[0]
    assert gpu.unusable == f"the size of its memory cannot be right: {size} bytes, and a MI210 has 68719476736"


def test_foreign_gpus_that_only_drm_shows_are_never_counted(tmp_path: Path) -> None:
    root = plant_host(read_host("container-one-of-eight"), tmp_path)
    assert len(list((root / "sys/class/drm").iterdir())) == 8
    assert len(found_on(root).gpus) == 1
    read = read_tree(str(root))["files"]
    assert "sys/class/drm/renderD128/device/uevent" in read
    assert "sys/class/drm/renderD128/device/mem_info_vram_used" not in read


def test_a_recorded_group_and_opening_come_before_the_stand_ins_own(tmp_path: Path) -> None:
    root = plant_host(read_host("render-nodes-closed"), tmp_path)
    assert read_tree(str(root))["device_nodes"]["/dev/dri/renderD128"]["opens"] is False
    (root / "recording.json").write_text('{"device_nodes": {"/dev/dri/renderD128": {"opens": 1, "group": -5}}}')
    assert sum(gpu.usable for gpu in found_on(root).gpus) == 8
    (root / "recording.json").write_text("[" * 100000)
    assert sum(gpu.usable for gpu in found_on(root).gpus) == 8


def test_a_live_look_is_a_child_process_that_gives_the_same(tmp_path: Path) -> None:
    """The child over a recorded tree answers what reading it here does; this machine itself has no AMD GPU."""
    from aim_engine.hardware.amd import ask as amd_ask
    from aim_engine.hardware.kfd import read as kfd_read

    root = plant_host(read_host("mi300x-cpx-nps4"), tmp_path)
    ending = amd_ask.run_child({}, 20, script=Path(kfd_read.__file__), arguments=(str(root),))
    assert ending.answer == read_tree(str(root))
    assert understand(ending.answer or {}, {}) == found_on(root)


def test_a_read_that_never_returns_costs_the_time_limit_and_says_so(tmp_path: Path) -> None:
    from aim_engine.hardware.amd import ask as amd_ask
    from aim_engine.hardware.kfd.detector import finding_of_child

    script = tmp_path / "hangs.py"
    script.write_text("import time; time.sleep(60)")
    started = time.monotonic()
    finding = finding_of_child(amd_ask.run_child({}, 0.3, script=script), {}, 0.3)
    assert time.monotonic() - started < 5
    assert "was not read within 0.3 seconds; the driver may be wedged" in finding.reason
    assert finding.blocking
    script.write_text("raise SystemExit('no memory left')")
    finding = finding_of_child(amd_ask.run_child({}, 20, script=script), {}, 20)
    assert "could not be read: exit status 1 (no memory left)" in finding.reason


def test_64_partitions_are_read_in_half_a_second(tmp_path: Path) -> None:
    root = plant_host(read_host("mi300x-cpx-nps4"), tmp_path)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        assert len(found_on(root).gpus) == 64
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.5
