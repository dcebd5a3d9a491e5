"""What a GPU's driver measures, from planted files of /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from aim_engine.hardware.sensors import Sensors, read_sensors, together

ADDRESS = "0000:05:00.0"


def plant(root: Path, **files: str) -> Path:
    device = root / "sys/bus/pci/devices" / ADDRESS
    (device / "hwmon/hwmon4").mkdir(parents=True)
    for name, text in files.items():
        (device / (f"hwmon/hwmon4/{name}" if name[-6:] in ("_input", "verage") else name)).write_text(text + "\n")
    return root


def test_an_instinct_gpu(tmp_path: Path) -> None:
    """It has no average power and no edge temperature."""
    root = plant(tmp_path, mem_info_vram_used="1000", mem_info_vram_total="4000", power1_input="750000000",
                 temp2_input="65000", temp3_input="50000")  # fmt: skip
    assert read_sensors(ADDRESS.upper(), root) == Sensors(
        memory_used_bytes=1000, memory_total_bytes=4000, power_watts=750.0, temperature_celsius=65.0
    )


def test_a_radeon_gpu_says_its_average_power_first(tmp_path: Path) -> None:
    found = read_sensors(ADDRESS, plant(tmp_path, power1_average="90000000", power1_input="1", temp1_input="40500"))
    assert (found.power_watts, found.temperature_celsius, found.memory_used_bytes) == (90.0, 40.5, None)


def test_a_gpu_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    assert read_sensors(ADDRESS, plant(tmp_path, power1_average="N/A")) == Sensors()
    assert read_sensors(ADDRESS, tmp_path / "none") == Sensors()


@pytest.mark.parametrize("label", ["", "GPU-1234", "../../../etc", "0000:05:00.0/../x", "0000:05:00.8"])
def test_what_is_no_pci_address_names_no_file(tmp_path: Path, label: str) -> None:
    assert read_sensors(label, plant(tmp_path, mem_info_vram_used="1000")) == Sensors()


def test_several_together() -> None:
    one = Sensors(memory_used_bytes=1, power_watts=100.5, temperature_celsius=50.0)
    other = Sensors(memory_used_bytes=2, power_watts=100.0)
    assert together([one, other]) == Sensors(memory_used_bytes=3, power_watts=200.5, temperature_celsius=50.0)
    assert together([one, Sensors()]).power_watts is None
    assert together([]) == Sensors()
