"""GPUs on the bus that no driver serves: which stop the search, which are a note, and what looking costs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aim_engine.errors import NoAcceleratorError
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Inventory, Surroundings
from aim_engine.hardware.pci import AMD, NVIDIA, PciDevice, display_devices
from tests.hardware.conftest import Plant

HOST = {"proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n"}


def device(address: str, vendor: str, device_id: str, class_code: str) -> dict[str, str]:
    folder = f"sys/bus/pci/devices/{address}"
    return {
        f"{folder}/vendor": f"{vendor}\n",
        f"{folder}/device": f"{device_id}\n",
        f"{folder}/class": f"{class_code}\n",
    }


MI300X = device("0000:05:00.0", AMD, "0x74a1", "0x120000")
RADEON = device("0000:03:00.0", AMD, "0x744c", "0x030000")
LAPTOP = device("0000:c1:00.0", AMD, "0x15bf", "0x038000")
SOUND = device("0000:c1:00.1", AMD, "0x1640", "0x040300")
H100 = device("0000:18:00.0", NVIDIA, "0x2330", "0x030200")
GEFORCE = device("0000:01:00.0", NVIDIA, "0x2684", "0x030000")


def found(root: Path) -> Inventory:
    return detect("detect", Surroundings(root=root, environment={}))


def refused(root: Path) -> NoAcceleratorError:
    with pytest.raises(NoAcceleratorError) as caught:
        found(root)
    assert len({caught.value.message, *caught.value.details}) == 1 + len(caught.value.details)
    return caught.value


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (MI300X, "1 x MI300X on the PCI bus (at 0000:05:00.0), but the amdgpu driver is not loaded"),
        (MI300X | RADEON | SOUND, "1 x RX 7900 XTX and 1 x MI300X on the PCI bus (at 0000:03:00.0), but the amdgpu"),
        (H100, "an NVIDIA GPU (0x2330 at 0000:18:00.0) is here, but NVIDIA's driver is not loaded"),
        (LAPTOP | H100, "an NVIDIA GPU"),
    ],
)  # fmt: skip
def test_a_gpu_that_could_serve_stops_the_search(plant: Plant, files: Mapping[str, str], reason: str) -> None:
    error = refused(plant({**HOST, **files}))
    assert error.message.startswith(reason)
    assert "cpu" in error.hint
    assert "modprobe" in error.hint


def test_one_that_was_given_to_a_virtual_machine_says_so(plant: Plant) -> None:
    root = plant({**HOST, **MI300X, "sys/bus/pci/drivers/vfio-pci/x": ""})
    (root / "sys/bus/pci/devices/0000:05:00.0/driver").symlink_to("../../drivers/vfio-pci")
    assert refused(root).message.endswith("the amdgpu driver is not loaded (bound to vfio-pci instead)")


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (LAPTOP, "an AMD GPU of a kind that is not known here (0x15bf at 0000:c1:00.0) is present; its driver is not "),
        (GEFORCE, "an NVIDIA GPU of a kind that is not known here (0x2684 at 0000:01:00.0) is present; its driver is"),
        ({"dev/dxg": ""}, "this is WSL (/dev/dxg): AMD's tools for Linux do not see a GPU behind it"),
    ],
)
def test_one_that_nobody_here_knows_is_a_note_beside_the_cpu(plant: Plant, files: Mapping[str, str], note: str) -> None:
    inventory = found(plant({**HOST, **files}))
    assert inventory.source == "cpu"
    assert [text for text in inventory.notes if text.startswith(note)]
    assert len(set(inventory.notes)) == len(inventory.notes)


def test_the_cpu_on_purpose_is_the_cpu(plant: Plant) -> None:
    assert detect("cpu", Surroundings(root=plant({**HOST, **MI300X}), environment={})).source == "cpu"


def test_a_render_node_without_the_compute_node(plant: Plant) -> None:
    drm = "sys/class/drm/renderD128/device"
    files = {**HOST, "dev/dri/renderD128": "", f"{drm}/vendor": "0x1002\n", f"{drm}/uevent": "DRIVER=amdgpu\n"}
    error = refused(plant(files))
    assert error.message == "the render node /dev/dri/renderD128 of an AMD GPU is here, but /dev/kfd is not"
    assert "--device /dev/kfd" in error.hint
    plant({f"{drm}/uevent": "DRIVER=radeon\n"})
    assert found(plant({})).source == "cpu"


def test_a_device_file_of_nvidias_is_a_sign(plant: Plant) -> None:
    from aim_engine.hardware.nvidia.detector import NvmlDetector

    root = plant({"dev/nvidia7": ""})
    assert not NvmlDetector().detect(Surroundings(root=root, environment={})).reason
    (root / "dev/nvidia7").rename(root / "dev/nvidiactl-no")
    assert NvmlDetector().detect(Surroundings(root=root, environment={})).reason == "there is no NVIDIA GPU here"


def test_only_display_adapters_and_accelerators_count(plant: Plant) -> None:
    root = plant({**SOUND, **LAPTOP, **device("0000:00:01.0", AMD, "0x14b5", "0x060000")})
    assert display_devices(root, AMD) == (PciDevice(address="0000:c1:00.0", device_id="0x15bf", class_code="0x038000"),)
    assert display_devices(root, NVIDIA) == display_devices(root / "nowhere", AMD) == ()


@pytest.mark.parametrize("name", ["vendor", "class", "device"])
def test_damage_is_no_gpu(plant: Plant, name: str) -> None:
    for odd in ("", "\x1b[2J", "0x", "9" * 5000):
        root = plant({**HOST, **MI300X, f"sys/bus/pci/devices/0000:05:00.0/{name}": odd})
        assert all(note.isprintable() for note in found(root).notes)
    path = root / "sys/bus/pci/devices/0000:05:00.0" / name
    path.unlink()
    os.mkfifo(path)
    assert found(root).source == "cpu"


def test_looking_costs_next_to_nothing(plant: Plant) -> None:
    files = dict[str, str]()
    for number in range(100):
        files |= device(f"0000:{number:02x}:00.0", "0x8086", "0x1234", "0x060400")
    root = plant({**HOST, **files})
    place = root / "sys/bus/pci/devices"

    def looked() -> None:
        os.utime(place, ns=(time.time_ns(), time.time_ns()))  # as if never looked at
        for _ in range(3):
            display_devices(root, AMD)
        display_devices(root, NVIDIA)

    def read_once() -> None:
        for path in place.iterdir():
            (path / "class").read_text()

    def best(work: Callable[[], None]) -> float:
        seconds = []
        for _ in range(9):
            started = time.process_time()
            work()
            seconds.append(time.process_time() - started)
        return min(seconds)

    assert best(looked) < 3 * best(read_once)
