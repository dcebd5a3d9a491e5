"""The scripts as files: each can be run, explains itself without installing anything, and the whole repository is free
of names that tie it to one place.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("setup", "demo", "check", "test", "bench", "model-card", "engine-versions", "sglang-parser", "faults")

# Put together here, so that this file does not find itself.
HOSTS = [
    ".".join(words)
    for words in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download", "pytorch", "org"),
        ("registry", "npmjs", "org"),
        ("deb", "debian", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
    )
]
PLACES = ["/" + "work/main", "/" + "work/shared", "shared" + "/DESIGN", "shared" + "/facts", "facts" + "/vllm"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_leading_comment_and_installs_nothing(name: str, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", checkout / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    done = subprocess.run(
        [checkout / "scripts" / name, "--help"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"scripts/{name}" in done.stdout
    first_comment = (ROOT / "scripts" / name).read_text().splitlines()[1]
    assert done.stdout.startswith(first_comment.removeprefix("# "))
    assert not (checkout / ".venv").exists()


def test_setup_names_the_parts_when_asked_for_another() -> None:
    done = subprocess.run([ROOT / "scripts" / "setup", "gpu"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "core, cpu, dev, all" in done.stderr


def test_setup_says_which_python_it_needs(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Python 3.9.1' && exit\nexit 1\n")
    old.chmod(0o755)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = subprocess.run(
        [tmp_path / "scripts" / "setup"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"PATH": "/usr/bin:/bin", "AIM_PYTHON": str(old)},
    )
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr
    assert "Python 3.9.1" in done.stderr
    assert "AIM_PYTHON=" in done.stderr


def test_ci_runs_the_same_scripts() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert "scripts/check" in text
    assert "scripts/test all" in text
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True, timeout=20)


@pytest.mark.parametrize("path", [*(f"scripts/{name}" for name in COMMANDS), ".ci/run"])
def test_can_be_run(path: str) -> None:
    assert (ROOT / path).stat().st_mode & 0o111


def test_no_file_names_a_package_registry_or_the_place_it_was_written_in() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=60, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    wrong = re.compile("|".join(map(re.escape, (*HOSTS, *PLACES))))
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {match.group()}" for match in wrong.finditer(text)]
    assert not found
