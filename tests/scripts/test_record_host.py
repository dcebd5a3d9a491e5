"""scripts/record-host: what it saves reads back as the same hardware, and holds nothing that names the host."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aim_engine.errors import NoAcceleratorError
from aim_engine.hardware import visibility
from aim_engine.hardware.cpu import CpuDetector
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Inventory, Surroundings
from aim_engine.hardware.kfd.detector import KfdDetector
from scripts import record_host
from scripts.redaction import Redaction, known_names
from tests.fakes import amd_smi
from tests.fakes.trees import host_names, plant_host, read_host

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "scripts" / "record_host.py"
FILES = (RECORD, ROOT / "scripts" / "redaction.py")


def record(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, RECORD, folder, *words],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def looked_at(root: Path) -> Inventory:
    """Without what a recording leaves out."""
    surroundings = Surroundings(root=root, environment={})
    found = detect("detect", surroundings, detectors=(KfdDetector(), CpuDetector()))
    driver = (found.driver_version or "").replace("-generic", "")  # a word that might be a name
    return replace(
        found, driver_version=driver, gpus=tuple(replace(gpu, unique_id=None, holders=()) for gpu in found.gpus)
    )


@pytest.mark.parametrize("name", [name for name in host_names() if "error" not in read_host(name)["expected"]])
def test_a_recording_reads_back_as_the_same_hardware(name: str, tmp_path: Path) -> None:
    host = plant_host(read_host(name), tmp_path / "host")
    done = record(tmp_path / "recording", "--root", str(host))
    assert (done.returncode, done.stderr) == (0, "")
    assert looked_at(tmp_path / "recording") == looked_at(host)
    count = len(looked_at(host).gpus)
    assert f"{count} AMD GPUs or partitions" in done.stdout
    assert "attached to an issue" in done.stdout


@pytest.mark.parametrize("name", [name for name in host_names() if "error" in read_host(name)["expected"]])
def test_a_host_without_a_gpu_is_recorded_with_its_reason(name: str, tmp_path: Path) -> None:
    host = plant_host(read_host(name), tmp_path / "host")
    done = record(tmp_path / "recording", "--root", str(host))
    assert done.returncode == 0
    assert "no AMD GPU: the driver shows this process none" in done.stdout
    findings = [
        KfdDetector().detect(Surroundings(root=root, environment={})) for root in (host, tmp_path / "recording")
    ]
    assert findings[0] == findings[1]


def test_ids_are_made_up_and_equal_where_they_were(tmp_path: Path) -> None:
    host = plant_host(read_host("mi300x-dpx-nps2"), tmp_path / "host")
    (host / "sys/class/kfd/kfd/proc/4711").mkdir(parents=True)
    (host / "sys/class/kfd/kfd/proc/4711/vram_1002").write_text("1048576")
    (host / "proc/4711").mkdir()
    (host / "proc/4711/comm").write_text("secret-project")
    (host / "proc/self/ns").mkdir(parents=True)
    (host / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    real = [gpu.unique_id for gpu in KfdDetector().detect(Surroundings(root=host, environment={})).gpus]
    record(tmp_path / "recording", "--root", str(host))
    finding = KfdDetector().detect(Surroundings(root=tmp_path / "recording", environment={}))
    made_up = [gpu.unique_id or "" for gpu in finding.gpus]
    assert len(set(made_up)) == len(set(real)) == 2
    assert [made_up.index(one) for one in made_up] == [real.index(one) for one in real]
    assert not set(made_up) & set(real)
    assert {len(one) for one in made_up} == {16}
    for drm in (tmp_path / "recording").glob("sys/class/drm/*/device/unique_id"):
        assert drm.read_text().strip() in made_up
    texts = "".join(path.read_text() for path in (tmp_path / "recording").rglob("*") if path.is_file())
    for secret in (*filter(None, real), *(str(int(one or "0", 16)) for one in real), "4711", "secret-project"):
        assert secret not in texts


def test_a_closed_node_stays_closed_and_keeps_its_group(tmp_path: Path) -> None:
    host = plant_host(read_host("render-nodes-closed"), tmp_path / "host")
    (host / "dev/kfd").chmod(0o620)
    record(tmp_path / "recording", "--root", str(host))
    nodes = json.loads((tmp_path / "recording/recording.json").read_text())["device_nodes"]
    assert nodes["/dev/dri/renderD128"] == {"mode": "0644", "group": 109, "opens": False}
    assert nodes["/dev/kfd"]["mode"] == "0620"
    assert (tmp_path / "recording/dev/dri/renderD128").read_bytes() == b""


def test_amdsmis_answer_is_kept_without_ids_and_processes(tmp_path: Path) -> None:
    installed = importlib.util.find_spec("amdsmi")
    assert installed is not None
    package = Path(str(installed.origin)).parent
    stand_in = amd_smi.build("7.0.2", package, tmp_path)
    gpus = amd_smi.host([amd_smi.MI300X, amd_smi.MI300X])
    done = record(tmp_path / "recording", **stand_in.environment(gpus))
    assert (done.returncode, done.stderr) == (0, "")
    assert "amdsmi's own answer" in done.stdout
    text = (tmp_path / "recording/amdsmi.json").read_text()
    first, second = json.loads(text)["gpus"]
    assert first["asic"]["device_id"]
    assert first["uuid"] != second["uuid"]
    assert re.fullmatch("[0-9]{8}-[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{12}", first["uuid"])
    for secret in ("holders", "asked_by", *(str(gpu[key]).lower() for gpu in gpus for key in ("serial", "uuid"))):
        assert secret not in text.lower()


def test_where_amdsmi_is_missing_it_says_so(tmp_path: Path) -> None:
    done = record(tmp_path / "recording", ROCM_PATH=str(tmp_path), ROCM_HOME=str(tmp_path))
    assert done.returncode == 0
    assert "not amdsmi's answer: " in done.stdout
    assert not (tmp_path / "recording/amdsmi.json").exists()


def test_it_needs_nothing_but_python_and_works_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts/record-host", "here"],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "here/proc/meminfo").read_text().startswith("MemTotal")
    assert (tmp_path / "here/proc/cpuinfo").read_text().count("processor") == 1


def test_only_the_standard_library_is_imported() -> None:
    """But for aim_engine's own reader, which imports no more."""
    for file in (*FILES, ROOT / "aim_engine/hardware/kfd/read.py"):
        names = set(re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.MULTILINE))
        assert names - {"__future__", "scripts"} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", [*FILES, ROOT / "aim_engine/hardware/kfd/read.py"])
def test_an_old_python_can_read_it(file: Path) -> None:
    """As far as the form goes: no such Python was at hand to run it."""
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    methods = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not methods & {"removeprefix", "removesuffix", "batched", "is_relative_to"}
    assert "strict" not in {word.arg for word in ast.walk(tree) if isinstance(word, ast.keyword)}


def test_the_words_of_a_library_lose_the_hosts_names_and_every_id() -> None:
    redaction = Redaction()
    redaction.names = ["rack7", "/home/bob"]
    answer = {
        "errors": {"asic": {"text": "no /home/bob/x on rack7, only on rack70", "code": 14}},
        "asic": {"market_name": "rack7", "asic_serial": "0xAB00CD00EF000012", "oam_id": 3},
        "board": {"product_serial": "PCB079220-0012", "fru_id": "N/A"},
        "enumeration": {"hip_uuid": "GPU-ab00cd00ef000012"},
        "xgmi": {"hive_id": 12322113203412992018, "ready": True},
        "unique_id": "N/A",
        "holders": [{"pid": 4711, "name": "secret"}],
    }
    told = redaction.last_of_json(redaction.answer([answer, answer]))
    assert told[0] == told[1]
    assert told[0]["errors"]["asic"]["text"] == "no (left out)/x on (left out), only on rack70"
    assert told[0]["asic"]["market_name"] == "(left out)"
    serial = told[0]["asic"]["asic_serial"].removeprefix("0x")
    assert told[0]["enumeration"]["hip_uuid"] == f"GPU-{serial}"
    assert re.fullmatch("[0-9a-f]{16}", serial)
    assert serial != "ab00cd00ef000012"
    assert re.fullmatch("[0-9]{9}-[0-9]{4}", told[0]["board"]["product_serial"].replace("PCB", "000"))
    assert (told[0]["unique_id"], told[0]["xgmi"]["ready"], told[0]["asic"]["oam_id"]) == ("N/A", True, 3)
    assert told[0]["xgmi"]["hive_id"] != 12322113203412992018
    assert "holders" not in told[0]
    assert redaction.sweep("0xab00cd00ef000012 AB00CD00EF000012 12322113203412992018").count(serial) == 1


def test_no_saved_text_holds_a_name(tmp_path: Path) -> None:
    host = plant_host(read_host("mi300x-spx"), tmp_path / "host")
    node = host / "sys/class/kfd/kfd/topology/nodes/2/properties"
    node.write_text(node.read_text() + "built_by bob\nodd 4711\n")
    (host / "sys/class/drm/renderD136/device/uevent").write_text(
        "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:46:00.0\nOF_NAME=ed-box\n"
    )
    (host / "sys/module/amdgpu/version").write_text("6.14.14-bob@ed-box.lab.example\n")
    (host / "proc/sys/kernel/osrelease").write_text("6.8.0-60-ed-box+\n")
    (host / "proc/cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: AMD EPYC of Ed-Box\nSerial\t\t: 00000000abcd\nflags\t\t: avx2 bob\n\n"
    )
    (host / "proc/meminfo").write_text("MemTotal: 1048576 kB\nMemAvailable: 524288 kB\nOwner: bob\n")
    (host / "sys/class/drm/renderD136/device/current_compute_partition").write_text("SPX on ED-BOX.lab.example\n")
    names = {"SUDO_USER": "bob", "LOGNAME": "al", "USER": "al", "HOSTNAME": "ed-box.lab.example"}
    record(tmp_path / "recording", "--root", str(host), **names)
    files = {path: path.read_text() for path in (tmp_path / "recording").rglob("*") if path.is_file()}
    for path, text in files.items():
        assert not re.search(r"\b(bob|al|ed-box|lab\.example|4711|abcd)\b", text, re.IGNORECASE), (path, text)
    found = KfdDetector().detect(Surroundings(root=tmp_path / "recording", environment={}))
    assert found.driver_version == "6.14.14"
    assert len([gpu for gpu in found.gpus if gpu.usable]) == 8
    assert (tmp_path / "recording/proc/sys/kernel/osrelease").read_text() == "6.8.0-60\n"
    assert (tmp_path / "recording/proc/cpuinfo").read_text().splitlines()[1].startswith("model name\t: AMD EPYC of ")


def test_the_words_of_an_error_lose_processes_and_parts_and_folders() -> None:
    redaction = Redaction()
    redaction.names = ["rack7.lab", "rack7", "al"]
    told = redaction.last_of_json(redaction.answer({
        "board": {"product_serial": "PCB079220-0012"},
        "driver": {"driver_version": "6.8.0-al+"},
        "errors": {"vram": {"text": "pid 4711 (process 4712) of AL on rack7.lab holds PCB079220-0012; serial number: "
                                    "QX77-0001, uuid 8932f937-d72c-4106-c12f-20bd9faed9f6, GPU 0x4162405E51BB99B0, "
                                    "/home/carol/x, /Users/dave, carol@rack7, kernel 6.8.0-al+, signal 11"}},
    }))  # fmt: skip
    text = json.dumps(told)
    for secret in ("4711", "4712", "al", "rack7", "PCB079220", "QX77", "8932f937", "4162405e51bb99b0", "carol", "dave"):
        assert not re.search(rf"(?<![a-z0-9]){secret}(?![a-z0-9])", text, re.IGNORECASE), secret
    said = told["errors"]["vram"]["text"]
    assert said.endswith("kernel 6.8.0, signal 11")
    assert "/home/(left out)/x, /Users/(left out)," in said
    assert told["driver"]["driver_version"] == "6.8.0"


def test_whose_names_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "SUDO_USER": "jo",
        "LOGNAME": "root",
        "USER": "12",
        "HOSTNAME": "box.lab",
        "HOME": "/data/jo",
    }.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr("platform.node", lambda: "n7.lab")
    assert {"jo", "box.lab", "n7.lab", "n7", "/data/jo"} <= set(known_names())
    assert not {"root", "12", "", "/root"} & set(known_names())


def test_a_gpu_without_a_driver_is_recorded_too(tmp_path: Path) -> None:
    host = plant_host(read_host("no-driver"), tmp_path / "host")
    for path, text in {"vendor": "0x1002", "device": "0x74a1", "class": "0x120000"}.items():
        file = host / "sys/bus/pci/devices/0000:05:00.0" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    os.mkfifo(host / "sys/devices/system/cpu/present")
    (host / "sys/devices/system/cpu/online").unlink()
    os.mkfifo(host / "sys/devices/system/cpu/online")
    assert record(tmp_path / "recording", "--root", str(host)).returncode == 0
    with pytest.raises(NoAcceleratorError, match="1 x MI300X on the PCI bus"):
        detect(str(tmp_path / "recording"), Surroundings(environment={}))


@pytest.mark.parametrize("kind", ["full", "file"])
def test_a_folder_that_is_not_empty_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("mine")
    (tmp_path / "file").write_text("mine")
    done = record(tmp_path / kind)
    assert done.returncode == 10
    assert f"{kind} is not an empty folder" in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]


def test_a_folder_that_cannot_be_made_and_a_wrong_word(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert record(tmp_path / "file/below").returncode == 42
    assert record(tmp_path / "new", "--what").returncode == 2


def test_help_teaches() -> None:
    done = subprocess.run(
        [ROOT / "scripts/record-host", "--help"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0
    for words in ("scripts/record-host FOLDER", "--hardware FOLDER", "attach it to an issue", "not yet run on one"):
        assert words in done.stdout


def planted_with(root: Path, **variables: str) -> Path:
    plant_host(read_host("mi300x-spx"), root)
    file = root / "recording.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "variables": variables}))
    return root


def test_a_recording_keeps_every_variable_that_is_read() -> None:
    assert sorted(record_host.VARIABLES) == sorted(visibility.NAMES)


def test_the_visibility_variables_are_kept_and_shown_and_count(tmp_path: Path) -> None:
    host = planted_with(tmp_path / "host", HIP_VISIBLE_DEVICES="5,2", ROCR_VISIBLE_DEVICES="")
    done = record(tmp_path / "recording", "--root", str(host))
    kept = json.loads((tmp_path / "recording/recording.json").read_text())["variables"]
    assert kept == {"HIP_VISIBLE_DEVICES": "5,2", "ROCR_VISIBLE_DEVICES": ""}
    assert "HIP_VISIBLE_DEVICES=5,2" in done.stdout
    found = detect(str(tmp_path / "recording"), Surroundings(environment={}))
    assert found.visibility == ("HIP_VISIBLE_DEVICES=5,2",)
    assert len(found.usable_gpus) == 2


@pytest.mark.parametrize("cut", [16, 15])
def test_an_id_among_the_variables_is_made_up_as_the_gpus_is(cut: int, tmp_path: Path) -> None:
    plain = plant_host(read_host("mi300x-spx"), tmp_path / "plain")
    real = KfdDetector().detect(Surroundings(root=plain, environment={})).gpus[3]
    assert real.unique_id
    name = f"GPU-{real.unique_id[:cut]}".upper()
    host = planted_with(tmp_path / "host", ROCR_VISIBLE_DEVICES=f"1,{name}")
    done = record(tmp_path / "recording", "--root", str(host))
    text = (tmp_path / "recording/recording.json").read_text() + done.stdout
    assert real.unique_id[:cut].lower() not in text.lower()
    found = detect(str(tmp_path / "recording"), Surroundings(environment={}))
    assert [gpu.pci_address for gpu in found.usable_gpus] == ["0000:27:00.0", real.pci_address]


def test_the_variables_of_this_machine_are_those_of_the_process(tmp_path: Path) -> None:
    uuid = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
    environment = {"CUDA_VISIBLE_DEVICES": f"0,{uuid}", "HIP_VISIBLE_DEVICES": "0,rack7/bob", "SECRET": "hunter2"}
    record(tmp_path / "recording", **environment)
    text = (tmp_path / "recording/recording.json").read_text()
    kept = json.loads(text)["variables"]
    assert re.fullmatch(r"0,\S{3}-\d{8}-\d{4}-\d{4}-\d{4}-\d{12}", kept["CUDA_VISIBLE_DEVICES"])
    for secret in (uuid, "8932f937", "hunter2", "rack7", "bob"):
        assert secret not in text


def test_a_recording_made_in_a_container_says_so(tmp_path: Path) -> None:
    host = plant_host(read_host("mi210"), tmp_path / "host")
    (host / ".dockerenv").touch()
    record(tmp_path / "recording", "--root", str(host))
    assert (tmp_path / "recording/.dockerenv").read_bytes() == b""
