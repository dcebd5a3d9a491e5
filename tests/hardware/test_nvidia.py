"""The NVIDIA detector: the real nvidia-ml-py in its child process, over a stand-in libnvidia-ml.so.1."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from aim_engine.errors import NoAcceleratorError
from aim_engine.hardware.cpu import CpuDetector
from aim_engine.hardware.detect import DETECTORS, detect
from aim_engine.hardware.inventory import Finding, Inventory, Surroundings
from aim_engine.hardware.nvidia.detector import NvmlDetector, look, read_answer
from tests.hardware.conftest import Plant

SOURCE = Path(__file__).parents[1] / "fakes" / "nvml.c"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cuda") / "libnvidia-ml.so.1"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(path), str(SOURCE)]
    subprocess.run(command, check=True)
    return path


def ask(library: Path, *, timeout_seconds: float = 10, visible: str | None = None, **pretended: int) -> Finding:
    environment = {"FAKE_NVML": ",".join(f"{key}={value}" for key, value in pretended.items())}
    environment |= {"LD_LIBRARY_PATH": str(library.parent)}
    environment |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return look(Surroundings(environment=environment, timeout_seconds=timeout_seconds))


def test_every_field_of_a_healthy_gpu(library: Path) -> None:
    finding = ask(library, gpus=8, used=2**30)
    assert (finding.source, finding.blocking, finding.driver_version) == ("nvml", False, "570.86.10")
    gpu = finding.gpus[7]
    assert (gpu.index, gpu.product, gpu.vendor, gpu.gfx, gpu.device_id) == (7, "H200", "nvidia", "sm_90", "0x2335")
    assert (gpu.memory_bytes, gpu.memory_free_bytes) == (150754820096, 150754820096 - 2**30)
    assert (gpu.pci_address, gpu.render_node, gpu.usable) == ("0000:42:00.0", "/dev/nvidia7", True)
    inventory = Inventory(source="nvml", gpus=finding.gpus)
    assert Inventory.from_json(_json(inventory), where="it") == inventory


@pytest.mark.parametrize(
    ("code", "reason"),
    [(9, "driver is not loaded"), (12, "cannot be loaded"), (18, "differ in version"), (999, "NVML")],
)
def test_a_failure_of_the_library_is_named(library: Path, code: int, reason: str) -> None:
    finding = ask(library, code=code)
    assert (finding.gpus, finding.blocking) == ((), True)
    assert reason in finding.reason
    assert "--hardware cpu" in finding.hint


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    finding = look(Surroundings(environment={"LD_LIBRARY_PATH": str(tmp_path)}))
    assert "libnvidia-ml.so.1 cannot be loaded" in finding.reason


def test_a_driver_that_hangs_costs_the_time_that_it_may(library: Path) -> None:
    started = time.monotonic()
    finding = ask(library, hang=1, timeout_seconds=0.5)
    assert "did not answer within 0.5 seconds" in finding.reason
    assert time.monotonic() - started < 5


def test_no_gpu_is_shown(library: Path) -> None:
    assert "shows no GPU" in ask(library, gpus=0).reason


@pytest.mark.parametrize(
    ("value", "order", "usable"),
    [("2,0", [2, 0, 1], 2), ("GPU-00000003", [2, 0, 1], 1), ("1,-1,2", [1, 0, 2], 1), ("", [0, 1, 2], 0)],
)
def test_the_users_choice_numbers_them(library: Path, value: str, order: list[int], usable: int) -> None:
    finding = ask(library, gpus=3, visible=value)
    assert [gpu.render_node for gpu in finding.gpus] == [f"/dev/nvidia{minor}" for minor in order]
    assert [gpu.index for gpu in finding.gpus] == [0, 1, 2]
    assert [gpu.usable for gpu in finding.gpus] == [True] * usable + [False] * (3 - usable)
    assert finding.visibility == (f"CUDA_VISIBLE_DEVICES={value}",)


def test_cudas_own_order_is_in_doubt_among_different_gpus(library: Path) -> None:
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in ask(library, gpus=2, mixed=1, visible="0").notes[0]


@pytest.mark.parametrize("answer", [{}, {"gpus": None}, {"gpus": [7]}, {"gpus": {}}, {"type": "x", "text": "\x1b[2J"}])
def test_a_damaged_answer_is_a_reason(answer: dict[str, object]) -> None:
    finding = read_answer(answer, {})
    assert finding.blocking
    assert finding.reason.isprintable()


def test_the_cpu_is_never_chosen_in_silence_beside_a_gpu(plant: Plant) -> None:
    """The driver's sign is there, and it cannot be asked: an error, not the CPU."""
    root = plant({"dev/nvidiactl": "", "proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n"})

    class Closed(NvmlDetector):
        def detect(self, surroundings: Surroundings) -> Finding:
            return look(Surroundings(environment={"LD_LIBRARY_PATH": str(root)}))

    with pytest.raises(NoAcceleratorError, match="cannot be loaded"):
        detect("detect", Surroundings(root=root, environment={}), detectors=(Closed(), CpuDetector()))


def test_it_is_asked_after_amds_layers_and_before_the_cpu() -> None:
    vendors = list(dict.fromkeys(detector.vendor for detector in DETECTORS))
    assert vendors == ["amd", "nvidia", "cpu"]


def _json(inventory: Inventory) -> str:
    import json

    return json.dumps(inventory.as_json())
