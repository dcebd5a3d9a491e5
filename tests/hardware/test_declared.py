"""What `--hardware` may declare: product lists, recorded inventories, and everything that is neither."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.errors import InputError, NoAcceleratorError
from aim_engine.hardware.cpu import CpuDetector
from aim_engine.hardware.declared import declared_inventory, recorded_host
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Gpu, Host, Inventory, Surroundings
from aim_engine.hardware.kfd.detector import KfdDetector
from tests.fakes.trees import host_names, plant_host, read_host

LIVE = Inventory(
    source="amdsmi",
    gpus=(
        Gpu(index=0, product="MI300X", vendor="amd", memory_bytes=206141652992, device_id="0x74a1", gfx="gfx942"),
        Gpu(index=1, product="MI300X", vendor="amd", memory_bytes=206141652992, unusable="the render node is closed"),
    ),
    notes=("one GPU is closed",),
    host=Host(
        cores=64, numa_nodes=2, memory_bytes=2**40, memory_available_bytes=2**39, architecture="x86_64", isa=("avx2",)
    ),
)


@pytest.mark.parametrize(
    ("text", "products"),
    [
        ("MI300X:8", ["MI300X"] * 8),
        ("MI300X", ["MI300X"]),
        ("mi300x:1", ["MI300X"]),
        ("MI300X:4,MI325X:4", ["MI300X"] * 4 + ["MI325X"] * 4),
        (" AMD Instinct MI355X : 2 , RX 7900 XTX", ["MI355X", "MI355X", "RX 7900 XTX"]),
        ("MI250X:2", ["MI250X", "MI250X"]),
        ("MI455X:4", ["MI455X"] * 4),
        ("MI300X:64", ["MI300X"] * 64),
    ],
)
def test_product_lists(text: str, products: list[str]) -> None:
    inventory = declared_inventory(text)
    assert [gpu.product for gpu in inventory.gpus] == products
    assert [gpu.index for gpu in inventory.gpus] == list(range(len(products)))
    assert inventory.source == "declared"
    assert inventory.declared
    assert inventory.host is None
    assert inventory.usable_gpus == inventory.gpus


def test_a_declared_gpu_claims_nothing_that_is_not_known() -> None:
    (gpu,) = declared_inventory("RX 7900 XTX").gpus
    assert (gpu.gfx, gpu.compute_units, gpu.device_id) == ("gfx1100", 96, "0x744c")
    assert gpu.memory_bytes == 25753026560
    assert (gpu.memory_free_bytes, gpu.pci_address, gpu.uuid, gpu.render_node, gpu.partition) == (None,) * 5


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("MI30X:8", "'MI30X' is not a GPU product", "MI300X"),
        ("MI300X:0", "'0' is not a number of devices", "MI300X:N with N from 1 to 64"),
        ("MI300X:65", "'65' is not", "1 to 64"),
        ("MI300X:-1", "'-1' is not", "1 to 64"),
        ("MI300X:", "'' is not", "1 to 64"),
        ("MI300X:eight", "'eight' is not", "1 to 64"),
        ("MI300X:٨", "is not a number", "1 to 64"),
        ("MI300X:40,MI325X:40", "declares 80 devices", "1 to 64"),
        (":8", "names no GPU product", "MI300X:8"),
        ("MI300X,,MI325X", "names no GPU product", "MI300X:8"),
        ("", "no hardware is named", "detect --json"),
        ("H100:8", "'H100' is not a GPU product", "known products"),
        ("-", "'-' is not a GPU product", "known products"),
        ("./nowhere.json", "nowhere.json is not a file", "detect --json"),
        ("inventory.JSON", "inventory.JSON is not a file", "detect --json"),
        ("~nobody-of-that-name/x.json", "cannot be read", "detect --json"),
        ("/dev/zero", "/dev/zero is not a file", "detect --json"),
        ("/tmp\x00/x", "cannot be read|is not a file", "detect --json"),
    ],
)
def test_bad_text_is_an_input_error_that_says_what_is_legal(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        declared_inventory(text)
    assert hint in caught.value.hint


def test_a_recording_reads_back_equal_but_counts_as_declared(tmp_path: Path) -> None:
    file = tmp_path / "inventory.json"
    file.write_text(json.dumps(LIVE.as_json()))
    recorded = declared_inventory(str(file))
    assert recorded == LIVE
    assert recorded.as_json() == LIVE.as_json()
    assert "recorded" not in LIVE.as_json()
    assert (LIVE.declared, recorded.declared, recorded.source) == (False, True, "amdsmi")
    file.write_text(json.dumps(recorded.as_json()))
    assert declared_inventory(str(file)) == LIVE


def test_unknown_keys_of_a_newer_recording_are_ignored(tmp_path: Path) -> None:
    file = tmp_path / "newer.json"
    file.write_text(json.dumps(LIVE.as_json() | {"colour": "red"}))
    assert declared_inventory(str(file)) == LIVE


def test_a_product_name_comes_before_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MI300X", "rack7"):
        Path(name).write_text(json.dumps(LIVE.as_json()))
    assert declared_inventory("MI300X").source == "declared"
    assert declared_inventory("./MI300X").source == "amdsmi"
    assert declared_inventory("rack7").source == "amdsmi"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not an inventory"),
        ("{}", "is not an inventory: source"),
        ("[]", "is not an inventory"),
        ('{"source": "x", "gpus": [{"index": "a"}]}', "is not an inventory: gpus.0"),
        ('{"source": "x", "gpus": []}', "lists no GPU"),
        ('{"source": "x", "gpus": [{"index": 0, "product": "A", "vendor": "b", "memory_bytes": 0}]}', "has no memory"),
        ("\udcff", "is not an inventory"),
        ("[" * 100_000, "is not an inventory"),
        (" " * (8 * 2**20 + 1), "larger than"),
    ],
)
def test_damaged_recordings(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "inventory.json"
    file.write_text(content, errors="surrogateescape")
    with pytest.raises(InputError, match=message):
        declared_inventory(str(file))


def test_a_file_that_fails_while_it_is_read() -> None:
    with pytest.raises(InputError, match="/proc/self/mem cannot be read"):
        declared_inventory("/proc/self/mem")


def test_the_recorded_mark_is_not_part_of_the_value() -> None:
    assert replace(LIVE, recorded=True) == LIVE
    assert hash(replace(LIVE, recorded=True)) == hash(LIVE)


@given(st.text(max_size=60))
def test_any_text_is_an_inventory_or_an_input_error(text: str) -> None:
    hint = ""
    try:
        found = bool(declared_inventory(text).gpus)
    except InputError as error:
        found, hint = False, error.hint
    assert found or hint


@given(st.lists(st.tuples(st.sampled_from(["MI300X", "MI355X", "W7900"]), st.integers(1, 16)), min_size=1, max_size=4))
def test_counts_add_up(parts: list[tuple[str, int]]) -> None:
    inventory = declared_inventory(",".join(f"{name}:{count}" for name, count in parts))
    assert len(inventory.gpus) == sum(count for _, count in parts)


KFD_LAYERS = (KfdDetector(), CpuDetector())
SOURCES = [name for name in host_names() if "error" not in read_host(name)["expected"]]


def test_a_folder_with_sys_below_it_is_a_recorded_host_that_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_host(read_host("mi210"), tmp_path / "rack7")
    monkeypatch.chdir(tmp_path)
    # the variables of this machine choose nothing on that one
    here = Surroundings(environment={"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"})
    for wish in ("rack7", "./rack7", f" {tmp_path}/rack7/ ", str(tmp_path / "rack7" / "sys" / "..")):
        inventory = detect(wish, here, detectors=KFD_LAYERS)
        assert (inventory.source, inventory.in_words(), inventory.declared) == ("kfd", "8 x MI210", True)
        assert inventory.visibility == ()
    assert inventory.host is not None
    assert inventory.host.cores == 128


def test_a_recorded_host_without_a_usable_gpu_gives_its_reason(tmp_path: Path) -> None:
    root = plant_host(read_host("kfd-hidden"), tmp_path)
    with pytest.raises(NoAcceleratorError, match="KFD topology in /sys is hidden"):
        detect(str(root), Surroundings(environment={}), detectors=KFD_LAYERS)


def test_a_folder_named_as_a_product_needs_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_host(read_host("mi210"), tmp_path / "MI300X")
    monkeypatch.chdir(tmp_path)
    assert recorded_host("MI300X") is None
    assert recorded_host("./MI300X") == tmp_path / "MI300X"
    assert declared_inventory("MI300X").notes == (
        "MI300X is the product here; a folder of that name is here too: write ./MI300X for that",)  # fmt: skip
    Path("MI210").touch()
    assert "a file of that name is here too: write ./MI210" in declared_inventory("MI210").notes[0]
    assert declared_inventory("MI355X").notes == ()


@pytest.mark.parametrize("name", ["host.tar.gz", "host.tgz", "HOST.ZIP", "host.tar.zst"])
def test_a_packed_recording_is_to_be_unpacked_first(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wish in (name, f"./{name}"):
        with pytest.raises(InputError, match="is not a file"):
            declared_inventory(wish)
        Path(name).write_bytes(bytes(range(256)))
        with pytest.raises(InputError, match="is packed") as caught:
            declared_inventory(wish)
        assert caught.value.hint.startswith("unpack it first")
        Path(name).unlink()


@pytest.mark.parametrize(
    ("folder", "message", "hint"),
    [("empty", "empty is no recorded host: it has no sys/", "scripts/record-host"), ("/", "this machine", "detect")],
)
def test_a_folder_that_is_no_recorded_host(folder: str, message: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        detect(str(tmp_path / folder), Surroundings(environment={}), detectors=KFD_LAYERS)
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["", "MI300X:8", "~nobody-of-that-name/x", "a\x00/b", "./nowhere", "loop/x"])
def test_what_is_no_folder_is_no_recorded_host(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert recorded_host(text) is None


@pytest.mark.parametrize("name", SOURCES)
def test_the_inventory_of_a_recorded_host_reads_back_equal_from_its_json(name: str, tmp_path: Path) -> None:
    root = plant_host(read_host(name), tmp_path / "host")
    inventory = detect(str(root), Surroundings(environment={}), detectors=KFD_LAYERS)
    file = tmp_path / "host.json"
    file.write_text(json.dumps(inventory.as_json()))
    assert inventory.source == "kfd"
    assert declared_inventory(str(file)) == inventory


def recorded_with(root: Path, **variables: str) -> Path:
    """A recorded host on which these were set."""
    plant_host(read_host("mi210"), root)
    file = root / "recording.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "variables": variables}))
    return root


def test_the_variables_of_the_recorded_host_choose_and_ours_do_not(tmp_path: Path) -> None:
    root = recorded_with(tmp_path, HIP_VISIBLE_DEVICES="2,3", PATH="/evil", AMD_VISIBLE_DEVICES="all")
    ours = Surroundings(environment={"HIP_VISIBLE_DEVICES": "0"})
    found = detect(str(root), ours, detectors=KFD_LAYERS)
    assert [gpu.pci_address for gpu in found.usable_gpus] == ["0000:03:00.0", "0000:26:00.0"]
    assert found.visibility == ("HIP_VISIBLE_DEVICES=2,3",)
    assert "HIP_VISIBLE_DEVICES=2,3 was set on the recorded host, and counts here too" in found.notes


def test_variables_of_a_recorded_host_that_contradict_are_refused_as_there(tmp_path: Path) -> None:
    root = recorded_with(tmp_path, HIP_VISIBLE_DEVICES="2", CUDA_VISIBLE_DEVICES="3")
    with pytest.raises(InputError, match="HIP_VISIBLE_DEVICES=2 and CUDA_VISIBLE_DEVICES=3 differ"):
        detect(str(root), Surroundings(environment={}), detectors=KFD_LAYERS)


@pytest.mark.parametrize("variables", ["x", [1], {"HIP_VISIBLE_DEVICES": 3}, {"HIP_VISIBLE_DEVICES": "0\n"}, None])
def test_damaged_variables_of_a_recorded_host_count_for_nothing(variables: object, tmp_path: Path) -> None:
    root = recorded_with(tmp_path)
    (root / "recording.json").write_text(json.dumps({"variables": variables, "device_nodes": 3}))
    assert len(detect(str(root), Surroundings(environment={}), detectors=KFD_LAYERS).usable_gpus) == 8
