"""scripts/test: what failed is run once more, and only so much of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.failed_tests import MOST, failed_files

ROOT = Path(__file__).parents[2]
NOTE = ".pytest_cache/v/cache/lastfailed"
# Stands for Python with pytest: fails at first as the file says, then as AGAIN says.
PYTHON = f"""#!/bin/sh
case $* in *failed_tests*) exec {sys.executable} "$@" ;; esac
echo "$*" >>calls
[ "$(wc -l <calls)" -eq 1 ] || exit "$AGAIN"
[ -s failures ] || exit "$FIRST"
mkdir -p {Path(NOTE).parent} && cp failures {NOTE} && exit 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("test", "failed_tests.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    for name, text in {"scripts/setup": "#!/bin/sh\n", ".venv/bin/python": PYTHON}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def tried(folder: Path, *words: str, failures: list[str], first: int = 0, again: int = 0) -> tuple[int, str, list[str]]:
    """The exit status, what was said, and what pytest was called with."""
    (folder / "failures").write_text(json.dumps(dict.fromkeys(failures, True)) if failures else "")
    environment = {"PATH": "/usr/bin:/bin", "AGAIN": str(again), "FIRST": str(first)}
    done = subprocess.run([folder / "scripts" / "test", "unit", *words], capture_output=True, text=True, timeout=30,
                          check=False, env=environment)  # fmt: skip
    return done.returncode, done.stderr, (folder / "calls").read_text().splitlines()


FAILED = ["tests/a.py::test_x[1::2]", "tests/b.py::test_y", "tests/a.py::test_z"]


def test_what_passes_when_run_again_is_named(folder: Path) -> None:
    status, said, calls = tried(folder, failures=FAILED)
    assert (status, len(calls)) == (0, 2)
    assert calls[1].endswith("tests/a.py tests/b.py")
    assert "--numprocesses" not in calls[1]
    assert "PASSED ONLY WHEN RUN AGAIN: tests/a.py tests/b.py" in said


def test_what_fails_again_has_failed(folder: Path) -> None:
    status, said, calls = tried(folder, failures=FAILED, again=1)
    assert (status, len(calls)) == (1, 2)
    assert "PASSED" not in said


@pytest.mark.parametrize("count", [MOST + 1, 50])
def test_many_failures_are_no_busy_machine(folder: Path, count: int) -> None:
    status, _, calls = tried(folder, failures=[f"tests/{number}.py::test" for number in range(count)])
    assert (status, len(calls)) == (1, 1)


def test_who_has_options_of_their_own_looks_for_themselves(folder: Path) -> None:
    status, _, calls = tried(folder, "-x", failures=FAILED)
    assert (status, len(calls)) == (1, 1)


@pytest.mark.parametrize("first", [0, 2, 3, 4, 5])
def test_other_ends_are_ends(folder: Path, first: int) -> None:
    """Of an earlier run nothing is left that could be run again."""
    (folder / NOTE).parent.mkdir(parents=True)
    (folder / NOTE).write_text(json.dumps(dict.fromkeys(FAILED, True)))
    status, _, calls = tried(folder, failures=[], first=first)
    assert (status, len(calls)) == (first, 1)


def test_the_files_of_the_tests() -> None:
    assert failed_files(json.dumps(dict.fromkeys(FAILED, True))) == ["tests/a.py", "tests/b.py"]
