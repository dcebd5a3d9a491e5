"""The AMD detector end to end: the real amdsmi package in its child process, over the stand-in libamd_smi.so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aim_engine.errors import NoAcceleratorError
from aim_engine.hardware import amd_ask
from aim_engine.hardware.amd import AmdSmiDetector
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Finding, Surroundings
from tests.fakes.amd_smi import build_library, library_environment, wrapper_symbols
from tests.hardware.conftest import Plant


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("rocm"))


def ask(library: Path, *, root: Path = Path("/"), timeout_seconds: float = 10.0, **pretended: object) -> Finding:
    environment = library_environment(library, **pretended)
    return AmdSmiDetector().detect(Surroundings(root=root, environment=environment, timeout_seconds=timeout_seconds))


def test_the_stand_in_has_every_function_the_binding_wants(library: Path) -> None:
    listing = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    assert wrapper_symbols() <= {line.split()[-1] for line in listing.stdout.splitlines()}


def test_every_field_of_a_healthy_gpu(library: Path) -> None:
    finding = ask(library, gpus=8, used=3 * 2**30)
    assert (finding.source, finding.blocking, finding.notes) == ("amdsmi", False, ())
    assert [gpu.index for gpu in finding.gpus] == list(range(8))
    first, last = finding.gpus[0], finding.gpus[7]
    assert (first.product, first.vendor, first.gfx, first.device_id) == ("MI300X", "amd", "gfx942", "0x74a1")
    assert first.memory_bytes == 206141652992
    assert first.memory_free_bytes == 206141652992 - 3 * 2**30
    assert (first.compute_units, first.partition, first.usable) == (304, "SPX/NPS1", True)
    assert (first.pci_address, last.pci_address) == ("0000:05:00.0", "0000:75:00.0")
    assert (first.render_node, last.render_node) == ("/dev/dri/renderD128", "/dev/dri/renderD184")
    assert (first.kfd_node, last.kfd_node, first.numa_node, last.numa_node) == (2, 9, 0, 1)
    assert first.uuid == "01ff74a1-0000-1000-8000-000000000001"


def test_gpus_are_counted_in_the_order_of_the_kfd_nodes(library: Path) -> None:
    gpus = ask(library, gpus=3, nodes="reverse").gpus
    assert [gpu.index for gpu in gpus] == [0, 1, 2]
    assert [gpu.kfd_node for gpu in gpus] == [2, 3, 4]
    assert [gpu.pci_address for gpu in gpus] == ["0000:25:00.0", "0000:15:00.0", "0000:05:00.0"]


@pytest.mark.parametrize(
    ("device", "revision", "units", "gfx", "product"),
    [
        ("0x75a3", "0", "256", "0x950", "MI355X"),
        ("0x744c", "0xcc", "84", "0x1100", "RX 7900 XT"),
        ("0x740c", "1", "104", "0x90a", "MI250"),
        ("0x740c", "1", "110", "0x90a", "MI250X"),
        ("0x7551", "0xc0", "64", "0x1201", "R9700"),
    ],
)
def test_the_product_goes_by_ids_not_by_name(
    library: Path, device: str, revision: str, units: str, gfx: str, product: str
) -> None:
    (gpu,) = ask(library, device=device, revision=revision, units=units, gfx=gfx, name="AMD Radeon Graphics").gpus
    assert (gpu.product, gpu.gfx, gpu.compute_units) == (product, gfx.replace("0x", "gfx"), int(units))


def test_an_unknown_gpu_keeps_what_amdsmi_says(library: Path) -> None:
    (gpu,) = ask(
        library, device="0x9999", gfx="0x1250", units=64, name="AMD Instinct X", compute="", memory_mode=""
    ).gpus
    assert (gpu.product, gpu.device_id, gpu.gfx, gpu.compute_units) == ("AMD Instinct X", "0x9999", "gfx1250", 64)
    assert gpu.partition is None
    assert gpu.usable


def test_partitions_that_share_memory_are_pointed_out(library: Path) -> None:
    shared = ask(library, gpus=8, units=38, compute="CPX", memory_mode="NPS1")
    assert {gpu.partition for gpu in shared.gpus} == {"CPX/NPS1"}
    assert {gpu.compute_units for gpu in shared.gpus} == {38}
    assert any("share one memory" in note for note in shared.notes)
    assert not ask(library, gpus=8, units=38, compute="CPX", memory_mode="NPS4").notes


def test_leaked_sentinels_become_unknown(library: Path) -> None:
    finding = ask(library, mode="sentinels")
    (gpu,) = finding.gpus
    assert gpu.memory_bytes == 206141652992  # from the one call that still says so
    assert (gpu.memory_free_bytes, gpu.render_node, gpu.kfd_node, gpu.numa_node) == (None,) * 4
    assert (gpu.gfx, gpu.compute_units) == ("gfx942", 304)  # from the product facts
    assert "KFD node" in finding.notes[0]


def test_a_gpu_without_a_memory_size_is_listed_but_unusable(library: Path) -> None:
    (gpu,) = ask(library, mode="no_memory").gpus
    assert gpu.unusable == "the size of its memory is unknown"


@pytest.mark.parametrize(
    ("mode", "reason", "hint"),
    [
        ("no_driver", "the amdgpu driver is not loaded", "modprobe amdgpu"),
        ("kfd_hidden", "its KFD topology in /sys is hidden", "use the default runtime"),
        ("crash", "amdsmi crashed while it was asked for the GPUs: signal 6", "differ in version"),
    ],
)
def test_failures_block_with_a_reason_and_a_remedy(library: Path, mode: str, reason: str, hint: str) -> None:
    finding = ask(library, mode=mode)
    assert finding.blocking
    assert not finding.gpus
    assert reason in finding.reason
    assert hint in finding.hint
    assert "--hardware cpu" in finding.hint


def test_an_empty_list_blocks(library: Path) -> None:
    finding = ask(library, gpus=0)
    assert finding.blocking
    assert "no GPU is visible" in finding.reason
    assert "--device /dev/kfd --device /dev/dri" in finding.hint


def test_a_call_that_never_returns_is_given_up(library: Path) -> None:
    start = time.monotonic()
    finding = ask(library, mode="hang", timeout_seconds=0.5)
    assert time.monotonic() - start < 3
    assert finding.blocking
    assert "did not answer amdsmi within 0.5 seconds" in finding.reason
    assert "AIM_DETECT_TIMEOUT" in finding.hint
    assert not list(children_of_this_process())


def children_of_this_process() -> Iterator[str]:
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            if "amd_child" in Path(f"/proc/{pid}/cmdline").read_text():
                yield pid


def test_a_missing_library_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    finding = ask(tmp_path / "libamd_smi.so")  # amdsmi prints two lines on stdout and raises KeyError
    assert finding.blocking
    assert "libamd_smi.so cannot be loaded" in finding.reason
    assert "amd-smi-lib" in finding.hint


def test_a_library_older_than_the_binding(tmp_path: Path) -> None:
    finding = ask(build_library(tmp_path, without=("amdsmi_get_cpu_model_name",)))
    assert finding.blocking
    assert "newer than ROCm's libamd_smi.so" in finding.reason
    assert "amdsmi_get_cpu_model_name" in finding.reason


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("raise ModuleNotFoundError('No module named amdsmi', name='amdsmi')", "amdsmi package is not installed"),
        ("def amdsmi_init(): raise OSError('libamd_smi.so: not found')", "libamd_smi.so cannot be loaded"),
        ("raise RuntimeError('odd')", "amdsmi failed to import: odd"),
        ("import os; os.write(1, b'nonsense'); os._exit(3)", "cannot be read: exit status 3"),
        ("import os, sys; print('alas', file=sys.stderr, flush=True); os._exit(0)", r"exit status 0 \(it said: alas\)"),
        ("amdsmi_init = list\ndef amdsmi_get_processor_handles(): return [1]", None),
    ],
    ids=["no package", "late library", "odd import", "nonsense", "silent", "bare"],
)
def test_damaged_packages(tmp_path: Path, library: Path, package: str, reason: str | None) -> None:
    """PYTHONPATH leads to the package, as it must in images where ROCm's own is not on sys.path."""
    (tmp_path / "amdsmi.py").write_text(package)
    environment = library_environment(library) | {"PYTHONPATH": str(tmp_path)}
    finding = AmdSmiDetector().detect(Surroundings(environment=environment))
    if reason is None:  # a binding that knows none of the questions
        assert finding.gpus[0].unusable == "the size of its memory is unknown"
        assert finding.gpus[0].product == "AMD GPU"
    else:
        assert finding.blocking
        assert re.search(reason, finding.reason), finding.reason


def test_the_binding_is_found_where_rocm_puts_it(tmp_path: Path) -> None:
    home = tmp_path / "share" / "amd_smi"
    home.mkdir(parents=True)
    (home / "amdsmi.py").write_text("def amdsmi_init(): raise RuntimeError('found me')")
    # -S: no site-packages, so the tests' own amdsmi is out of sight
    command = [sys.executable, "-P", "-S", str(amd_ask.CHILD)]
    result = subprocess.run(command, env={"ROCM_PATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert "found me" in result.stdout


def test_nothing_of_the_current_folder_is_imported(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the current folder')")
    (tmp_path / "amdsmi.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert ask(library).gpus


# Device nodes. The recorded tree carries the nodes; the library stands for the driver.


def test_a_closed_render_node_makes_its_gpu_unusable(library: Path, plant: Plant) -> None:
    root = plant(
        {
            "dev/dri/renderD128": "",
            "sys/bus/pci/devices/0000:05:00.0/device": "0x74a5\n",
            "sys/bus/pci/devices/0000:05:00.0/revision": "0x00\n",
        }
    )
    finding = ask(library, root=root, mode="render_closed", memory=274877906944)
    (gpu,) = finding.gpus
    assert gpu.unusable == "the render node /dev/dri/renderD128 cannot be opened"
    assert (gpu.product, gpu.gfx, gpu.memory_bytes) == ("MI325X", "gfx942", 274877906944)
    assert not finding.blocking
    (note,) = finding.notes
    assert note.startswith("to open /dev/dri/renderD128: docker run --device /dev/kfd --device /dev/dri")
    assert f"--group-add {os.getgid()}" in note


# What costs nothing


def test_no_sign_of_a_gpu_asks_nobody(tmp_path: Path) -> None:
    finding = AmdSmiDetector().detect(Surroundings(root=tmp_path, environment={}))
    assert finding.reason == "there is no AMD GPU here: /dev/kfd and the amdgpu driver are absent"
    assert not finding.blocking
    assert "--device /dev/kfd" in finding.hint


@pytest.mark.parametrize("sign", ["dev/kfd", "sys/module/amdgpu/initstate", "sys/class/kfd/kfd/dev"])
def test_a_recorded_host_is_never_asked_through_the_library(plant: Plant, sign: str) -> None:
    finding = AmdSmiDetector().detect(Surroundings(root=plant({sign: ""}), environment={}))
    assert finding.reason == "amdsmi cannot be asked about a recorded host"


def test_through_the_detector_table(library: Path) -> None:
    inventory = detect("detect", Surroundings(environment=library_environment(library, gpus=4)))
    assert (inventory.source, len(inventory.usable_gpus), inventory.declared) == ("amdsmi", 4, False)
    assert inventory.host is not None
    with pytest.raises(NoAcceleratorError, match="driver is not loaded") as caught:
        detect("detect", Surroundings(environment=library_environment(library, mode="no_driver")))
    assert "modprobe" in caught.value.hint
    assert detect("cpu", Surroundings(environment=library_environment(library, mode="no_driver"))).source == "cpu"
