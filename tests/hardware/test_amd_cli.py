"""The amd-smi program's answers, given by a stand-in script in the forms of ROCm 6 and ROCm 7."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aim_engine.hardware.amd import cli as amd_cli
from aim_engine.hardware.amd.cli import AmdSmiProgramDetector
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Finding, Surroundings
from aim_engine.hardware.kfd.detector import KfdDetector
from tests.fakes.trees import plant_host, read_host
from tests.hardware.conftest import Plant, has_ended

# The script finds the answer to `amd-smi list -e --json` in the file "list -e --json" next to it.
SCRIPT = """#!/bin/sh
here=${0%/*}
echo "$*" >> "$here/asked"
[ ! -e "$here/slow" ] || { sleep 600 & echo $! > "$here/child"; wait; }
[ -e "$here/$*" ] || { echo "unrecognised arguments: $*" >&2; exit 2; }
cat "$here/$*"
"""
STATIC = "static --asic --vram --partition --numa --driver --json"
METRIC = "metric --mem-usage --json"
Answers = Mapping[str, Any]


def mebibytes(number: int) -> dict[str, Any]:
    return {"value": number, "unit": "MB"}


def listed(place: int, **more: Any) -> dict[str, Any]:
    return {
        "gpu": place, "bdf": f"0000:{5 + 16 * place:02x}:00.0",
        "uuid": f"{place:02x}ff74a1-0000-1000-8000-000000000000",
        "kfd_id": 4660, "node_id": 3 - place, "partition_id": 0, **more,
    }  # fmt: skip


def static(place: int, **more: Any) -> dict[str, Any]:
    return {
        "gpu": place,
        "asic": {
            "market_name": "AMD Instinct MI300X", "vendor_id": "0x1002", "device_id": "0x74a1", "rev_id": "0x00",
            "asic_serial": "0x4162405E51BB99B0", "oam_id": place, "num_compute_units": 304,
            "target_graphics_version": "gfx942",
        },
        "vram": {"type": "HBM3", "vendor": "SAMSUNG", "size": mebibytes(196592), "bit_width": mebibytes(8192)},
        "numa": {"node": place, "affinity": 0},
        "driver": {"name": "amdgpu", "version": "6.12.12"},
        "partition": {"accelerator_partition": "SPX", "memory_partition": "NPS1", "partition_id": 0},
        **more,
    }  # fmt: skip


def metric(place: int) -> dict[str, Any]:
    return {"gpu": place, "mem_usage": {"total_vram": mebibytes(196592), "used_vram": mebibytes(592)}}


def seven() -> Answers:
    return {
        "list -e --json": {"gpu_data": [listed(place, render=f"renderD{128 + 8 * place}") for place in (0, 1)]},
        STATIC: {"gpu_data": [static(0), static(1)]},
        METRIC: {"gpu_data": [metric(0), metric(1)]},
    }


def six() -> Answers:
    """Bare lists, other keys, numbers in texts; `list` knows no -e and `static` refuses an option."""
    old = {"partition": {"compute_partition": "SPX", "memory_partition": "NPS1"}, "vram": {"size": "196592 MB"}}
    return {
        "list --json": [listed(0, node_id="3"), listed(1, node_id="2")],
        "static --json": [static(0, **old), static(1, **old)],
        METRIC: [metric(0), metric(1)],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    program = tmp_path / "amd-smi"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    return tmp_path


def ask(folder: Path, answers: Answers, *, timeout_seconds: float = 10, root: Path = Path("/")) -> Finding:
    for arguments, answer in answers.items():
        (folder / arguments).write_text(answer if isinstance(answer, str) else json.dumps(answer, indent=4))
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "AMDSMI_MOCK_STATE_DIR": "/"}
    return AmdSmiProgramDetector().detect(
        Surroundings(root=root, environment=environment, timeout_seconds=timeout_seconds)
    )


@pytest.mark.parametrize("form", [six, seven])
def test_two_gpus_in_hips_order(folder: Path, form: Any) -> None:
    finding = ask(folder, form())
    assert (finding.source, finding.driver_version, finding.blocking) == ("amd-smi", "6.12.12", False)
    first, second = finding.gpus
    assert (first.index, first.kfd_node, first.pci_address, first.numa_node) == (0, 2, "0000:15:00.0", 1)
    assert (second.index, second.kfd_node, second.pci_address) == (1, 3, "0000:05:00.0")
    assert (first.product, first.gfx, first.compute_units, first.partition) == ("MI300X", "gfx942", 304, "SPX/NPS1")
    assert (first.memory_bytes, first.memory_free_bytes) == (206141652992, 196000 * 2**20)
    assert (first.unique_id, first.usable) == ("4162405e51bb99b0", True)
    assert first.render_node == ("/dev/dri/renderD136" if form is seven else None)


def test_what_is_not_available(folder: Path) -> None:
    nothing = {"asic": "N/A", "vram": {"size": "N/A"}, "numa": {"node": "N/A"}, "driver": "N/A", "partition": "N/A"}
    entry = listed(0, node_id="N/A", partition_id="N/A", uuid="N/A", render="N/A")
    finding = ask(folder, {"list -e --json": [entry], STATIC: [static(0, **nothing)], METRIC: [{"gpu": 0}]})
    assert (finding.gpus, finding.blocking) == ((), True)
    assert "amd-smi lists AMD GPUs (1), but for none of them a size of its memory" in finding.reason
    beside = [entry, listed(1)]
    finding = ask(folder, {"list -e --json": beside, STATIC: [static(0, **nothing), static(1)], METRIC: [{"gpu": 0}]})
    gpu = next(gpu for gpu in finding.gpus if not gpu.usable)
    assert (gpu.product, gpu.unusable, finding.driver_version) == ("AMD GPU", "the size of its memory is unknown", None)
    assert (gpu.uuid, gpu.kfd_node, gpu.numa_node, gpu.partition, gpu.render_node) == (None,) * 5


def test_partitions(folder: Path) -> None:
    entries = [listed(0, bdf=f"0000:05:00.{part}", gpu=part, node_id=2 + part, partition_id=part) for part in range(8)]
    part_of = {"asic": {"device_id": "0x74a1", "num_compute_units": 38}}
    modes = [{"compute_partition": "CPX", "memory_partition": "NPS1", "partition_id": part} for part in range(8)]
    finding = ask(
        folder,
        {"list --json": entries, STATIC: [static(part, **part_of, partition=modes[part]) for part in range(8)]},
    )
    assert [gpu.partition_id for gpu in finding.gpus] == list(range(8))
    assert {(gpu.partition, gpu.package, gpu.memory_pool) for gpu in finding.gpus} == {
        ("CPX/NPS1", "0000:05:00.0", "0000:05:00.0")
    }


def test_a_closed_render_node(folder: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real host, where nodes matter; its root is a recorded one, which the test declares to be live."""
    root = plant({"dev/kfd": "", "dev/dri/renderD128": ""})
    monkeypatch.setattr(Surroundings, "is_live", True)
    for arguments, answer in seven().items():
        (folder / arguments).write_text(json.dumps(answer))
    finding = AmdSmiProgramDetector().detect(Surroundings(root=root, environment={"PATH": f"{folder}:/bin"}))
    assert [gpu.unusable for gpu in finding.gpus] == [None, "the render node /dev/dri/renderD136 is not here"]
    assert "to open /dev/dri/renderD136: docker run" in finding.notes[0]


def test_warnings_before_the_answer_do_not_matter(folder: Path) -> None:
    answers = {name: f"SyntaxWarning: [odd]\n  return x\n{json.dumps(answer)}\n" for name, answer in seven().items()}
    assert len(ask(folder, answers).gpus) == 2


def test_the_list_alone_leaves_it_to_the_next_layer(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    finding = ask(folder, {"list --json": [listed(0)]})
    assert (finding.gpus, finding.blocking) == ((), True)
    assert "amd-smi lists 1 GPUs and does not say what they are: `amd-smi static --json` ended" in finding.reason
    root = plant_host(read_host("mi300x-spx"), tmp_path_factory.mktemp("host"))
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "AMDSMI_MOCK_STATE_DIR": "/"}
    layers = (AmdSmiProgramDetector(), KfdDetector())
    inventory = detect("detect", Surroundings(root=root, environment=environment), detectors=layers)
    assert (inventory.source, len(inventory.usable_gpus)) == ("kfd", 8)
    assert "does not say what they are" in inventory.notes[0]


def test_a_program_that_never_returns_is_ended_with_its_children(folder: Path) -> None:
    (folder / "slow").touch()
    start = time.monotonic()
    finding = ask(folder, {}, timeout_seconds=0.5)
    assert time.monotonic() - start < 5
    assert finding.blocking
    assert "it did not answer within 0.5 seconds" in finding.reason
    assert (folder / "asked").read_text().splitlines() == ["list -e --json"]
    assert has_ended((folder / "child").read_text().strip())


@pytest.mark.parametrize("answer", ["", "no JSON", "{", '{"gpu_data": 1}', "3", "[" * 100_000])
def test_answers_that_list_nothing(folder: Path, answer: str) -> None:
    finding = ask(folder, {"list -e --json": answer})
    assert finding.blocking
    assert "amd-smi does not list the GPUs" in finding.reason


def test_the_programs_own_words_are_passed_on(folder: Path) -> None:
    finding = ask(folder, {})
    assert "`amd-smi list --json` ended with status 2: unrecognised arguments: list --json" in finding.reason


def test_an_empty_list(folder: Path) -> None:
    assert "no GPU is visible" in ask(folder, {"list -e --json": {"gpu_data": []}}).reason


def test_odd_entries_are_passed_over(folder: Path) -> None:
    entries: list[Any] = [None, 5, {}, {"gpu": []}, {"gpu": 0, "bdf": 5, "node_id": {"value": "x"}, "render": {}}]
    finding = ask(
        folder, {"list -e --json": entries, STATIC: [{"gpu": 0, "asic": [], "vram": {"size": {"value": []}}}]}
    )
    assert finding.blocking


@pytest.mark.parametrize(
    ("size", "number"),
    [
        ({"value": 192, "unit": "GB"}, 196608), (mebibytes(16), 16), ("16 MB", 16), (16, 16), ("16", 16),
        ({"value": 1048576, "unit": "B"}, 1), ("N/A", None), (None, None), ({"value": 5, "unit": "stones"}, None),
        ({"value": 10**40, "unit": "B"}, None),
    ],
)  # fmt: skip
def test_sizes(size: object, number: int | None) -> None:
    assert amd_cli._mebibytes(size) == number


def test_nothing_is_run_where_there_is_no_sign_of_a_gpu(folder: Path) -> None:
    finding = AmdSmiProgramDetector().detect(Surroundings(root=Path("/nonexistent"), environment={"PATH": str(folder)}))
    assert finding.reason == "there is no AMD GPU here: /dev/kfd and the amdgpu driver are absent"
    assert not (folder / "asked").exists()


def test_nothing_is_run_for_a_recorded_host(folder: Path, plant: Plant) -> None:
    root = plant({"dev/kfd": ""})
    finding = AmdSmiProgramDetector().detect(Surroundings(root=root, environment={"PATH": str(folder)}))
    assert (finding.reason, finding.gpus, finding.blocking) == ("", (), False)
    assert not (folder / "asked").exists()


def test_a_host_without_the_program(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "AMDSMI_MOCK_STATE_DIR": "/"}
    finding = AmdSmiProgramDetector().detect(Surroundings(environment=environment))
    assert (finding.reason, finding.blocking) == ("there is no amd-smi program on the PATH", False)
