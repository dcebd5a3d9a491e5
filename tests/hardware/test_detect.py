"""The detector table: the order of the layers, what stops it, and what it costs where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aim_engine.errors import InputError, NoAcceleratorError
from aim_engine.hardware.amd.failures import without_answer
from aim_engine.hardware.detect import DETECTORS, detect, is_this_machine
from aim_engine.hardware.inventory import Detector, Finding, Gpu, Surroundings
from tests.fakes.trees import plant_host, read_host
from tests.hardware.conftest import Plant

NOWHERE = Surroundings(root=Path("/nonexistent"), environment={})
CARD = Gpu(index=0, product="Card", vendor="x", memory_bytes=1)


class Fixed:
    """A detector that always gives the same answer, and counts how often it is asked."""

    def __init__(self, finding: Finding, vendor: str = "") -> None:
        self.name = finding.source
        self.vendor = vendor or finding.source
        self.finding = finding
        self.asked = 0
        self.seconds = 0.0

    def detect(self, surroundings: Surroundings) -> Finding:
        self.asked += 1
        self.seconds = surroundings.timeout_seconds
        return self.finding


def test_the_first_that_finds_something_wins() -> None:
    none = Fixed(Finding(source="a", reason="there is no A here", notes=("A looked twice",)))
    found = Fixed(Finding(source="b", gpus=(CARD,), notes=("B is slow",)))
    later = Fixed(Finding(source="c", gpus=(CARD,)))
    inventory = detect("detect", NOWHERE, detectors=(none, found, later))
    assert (inventory.source, inventory.gpus) == ("b", (CARD,))
    assert inventory.notes[:3] == ("A looked twice", "there is no A here; using the Card", "B is slow")
    assert later.asked == 0


def test_a_blocking_finding_ends_the_search() -> None:
    broken = Fixed(Finding(source="a", reason="A is broken", hint="mend A", blocking=True, notes=("since May",)))
    lesser = Fixed(Finding(source="b", gpus=(CARD,)))
    with pytest.raises(NoAcceleratorError) as caught:
        detect("detect", NOWHERE, detectors=(broken, lesser))
    assert (caught.value.message, caught.value.hint, caught.value.details) == ("A is broken", "mend A", ("since May",))
    assert lesser.asked == 0
    assert detect("b", NOWHERE, detectors=(broken, lesser)).source == "b"


def test_a_broken_layer_falls_to_the_next_of_its_vendor_which_gets_the_time_that_is_left() -> None:
    broken = Fixed(Finding(source="a", reason="A is broken", hint="mend A", blocking=True), vendor="v")
    empty = Fixed(Finding(source="b", reason="B sees nothing", notes=("B looked",)), vendor="v")
    found = Fixed(Finding(source="c", gpus=(CARD,), driver_version="6.14", visibility=("SEE=0",)), vendor="v")
    lesser = Fixed(Finding(source="d", gpus=(CARD,)))
    inventory = detect("detect", NOWHERE, detectors=(broken, empty, found, lesser))
    assert (inventory.source, inventory.driver_version, inventory.visibility) == ("c", "6.14", ("SEE=0",))
    assert inventory.notes[:3] == ("A is broken", "B looked", "B sees nothing; using the Card")
    assert broken.seconds < NOWHERE.timeout_seconds
    assert broken.seconds > empty.seconds > 0.0 < found.seconds <= NOWHERE.timeout_seconds
    with pytest.raises(NoAcceleratorError) as caught:
        detect("detect", NOWHERE, detectors=(broken, empty, lesser))
    assert (caught.value.message, caught.value.details) == ("A is broken", ("B looked", "B sees nothing"))
    assert lesser.asked == 0


def test_the_cause_is_the_error_and_the_askers_own_trouble_a_detail() -> None:
    asker = Fixed(Finding(source="a", reason="the package is missing", hint="install it", blocking=True), vendor="v")
    vague = Fixed(Finding(source="b", reason="B sees nothing", blocking=True), vendor="v")
    cause = Fixed(Finding(source="c", reason="no driver", hint="load it", blocking=True, certain=True), vendor="v")
    with pytest.raises(NoAcceleratorError) as caught:
        detect("detect", NOWHERE, detectors=(asker, vague, cause))
    assert (caught.value.message, caught.value.hint) == ("no driver", "load it")
    assert caught.value.details == ("the package is missing", "B sees nothing")


def test_of_several_causes_the_first_layers_is_the_error() -> None:
    one = Fixed(Finding(source="a", reason="one", blocking=True, certain=True), vendor="v")
    two = Fixed(Finding(source="b", reason="two", blocking=True, certain=True), vendor="v")
    with pytest.raises(NoAcceleratorError, match="one"):
        detect("detect", NOWHERE, detectors=(one, two))


def test_a_layer_that_is_not_here_is_no_news_where_another_found_all() -> None:
    absent = Fixed(Finding(source="a", reason="there is no program A", optional=True), vendor="v")
    found = Fixed(Finding(source="b", gpus=(CARD,)), vendor="v")
    assert not any("program A" in note for note in detect("detect", NOWHERE, detectors=(absent, found)).notes)
    with pytest.raises(NoAcceleratorError, match="there is no program A"):
        detect("detect", NOWHERE, detectors=(absent,))


class MissingAmdsmi:
    """amdsmi as it is where Python has no such package."""

    name, vendor = "amdsmi", "amd"

    def detect(self, surroundings: Surroundings) -> Finding:
        del surroundings
        failure = {"stage": "import", "type": "ModuleNotFoundError", "code": None, "text": "No module named 'amdsmi'"}
        found = without_answer("amdsmi", failure)
        assert found is not None
        return found


@pytest.mark.parametrize(
    ("host", "reason", "remedy"),
    [
        ("driver-gone", "the amdgpu driver is not loaded", "modprobe amdgpu"),
        ("container-no-render-node", "started without the GPUs' render nodes", "--device /dev/dri"),
        ("kfd-hidden", "its KFD topology in /sys is hidden", "default runtime"),
        ("no-gpu-node", "its KFD topology lists no GPU", "dmesg"),
    ],
)
def test_a_missing_package_does_not_hide_the_cause(host: str, reason: str, remedy: str, tmp_path: Path) -> None:
    root = plant_host(read_host(host), tmp_path)
    with pytest.raises(NoAcceleratorError) as caught:
        detect("detect", Surroundings(root=root, environment={}), detectors=(MissingAmdsmi(), *DETECTORS[1:]))
    assert reason in caught.value.message
    assert remedy in caught.value.hint
    assert "not installed" not in caught.value.message
    assert any("amdsmi package is not installed" in detail for detail in caught.value.details)


@pytest.mark.parametrize(
    ("wish", "ours"),
    [("detect", True), ("auto", True), ("CPU", True), ("kfd", True), ("MI300X:8", False), ("x", False)],
)
def test_what_means_this_machine(wish: str, ours: bool) -> None:
    assert is_this_machine(wish) is ours


def test_nothing_at_all_names_every_reason() -> None:
    layers: list[Detector] = [Fixed(Finding(source=name, reason=f"no {name}", hint=f"get {name}")) for name in "ab"]
    with pytest.raises(NoAcceleratorError, match="no a; no b") as caught:
        detect("detect", NOWHERE, detectors=layers)
    assert caught.value.hint == "get a"


def test_a_recorded_host_without_a_gpu_falls_to_its_cpu_and_counts_as_declared(plant: Plant) -> None:
    root = plant({"proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n"})
    inventory = detect("detect", Surroundings(root=root, environment={}))
    assert (inventory.source, inventory.declared) == ("cpu", True)
    assert inventory.notes[0] == "there is no AMD GPU here: /dev/kfd and the amdgpu driver are absent"
    assert "there is no NVIDIA GPU here; using the CPU" in inventory.notes
    assert len(inventory.notes) == len(set(inventory.notes))
    assert inventory.host is not None
    assert inventory.host.memory_bytes == 2**30


@pytest.mark.parametrize("wish", ["cpu", "CPU", " cpu "])
def test_the_cpu_on_purpose(wish: str) -> None:
    inventory = detect(wish, Surroundings(environment={}))
    assert (inventory.source, inventory.declared) == ("cpu", False)
    assert not any("AMD" in note for note in inventory.notes)


def test_anything_else_is_declared() -> None:
    assert len(detect("MI300X:8", NOWHERE).gpus) == 8
    with pytest.raises(InputError, match="not a GPU product"):
        detect("cpux", NOWHERE)


def test_detect_json_reads_back_equal(tmp_path: Path) -> None:
    live = detect("cpu", Surroundings(environment={}))
    file = tmp_path / "host.json"
    file.write_text(json.dumps(live.as_json()))
    assert detect(str(file), NOWHERE) == live
    assert detect(str(file), NOWHERE).declared


def test_the_table_ends_with_the_cpu_and_names_no_layer_twice() -> None:
    names = [detector.name for detector in DETECTORS]
    assert names[-1] == "cpu"
    assert len(names) == len(set(names))


LOADED = """
import pathlib, sys
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Surroundings
detect("detect", Surroundings(root=pathlib.Path(sys.argv[1]), environment={}))
heavy = ("pydantic", "subprocess", "multiprocessing", "yaml", "amdsmi", "ctypes")
print([name for name in heavy if name in sys.modules])
"""


def test_a_machine_without_a_gpu_loads_nothing_heavy(plant: Plant) -> None:
    """What it costs in time `scripts/bench detect` says."""
    root = plant({"proc/meminfo": "MemTotal: 1048576 kB\n"})
    command = [sys.executable, "-c", LOADED, str(root)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout
    assert output.strip() == "[]"
