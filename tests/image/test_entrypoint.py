"""The entry point, run by this machine's sh with a stand-in for the command. Needs no Docker."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from aim_engine.cli import main

ENTRYPOINT = (Path(__file__).parents[2] / "entrypoint").read_text()
STAND_IN = '#!/bin/sh\necho aim-engine "$@"\n'


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The entry point, whose aim-engine repeats what it was given."""
    command, script = folder / "aim-engine", folder / "entrypoint"
    command.write_text(STAND_IN)
    command.chmod(0o755)
    script.write_text(ENTRYPOINT.replace("/opt/aim-engine/venv/bin/aim-engine", str(command)))
    return subprocess.run(["sh", script, *words], cwd=folder, capture_output=True, text=True, check=False)


def test_every_subcommand_is_known_to_the_entry_point() -> None:
    listed = re.search(r"^    (completion .*)\)$", ENTRYPOINT, re.MULTILINE)
    assert listed
    assert set(listed[1].split(" | ")) == {*main._COMMANDS, *main._ALIASES}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "serve"),
        (("--port", "9"), "serve --port 9"),
        (("--help",), "--help"),
        (("plan", "a/b"), "plan a/b"),
        (("paln", "a/b"), "paln a/b"),
        (("Qwen/Qwen3-32B",), "Qwen/Qwen3-32B"),
        (("/",), "/"),
        (("./nothing-there",), "./nothing-there"),
    ],
)
def test_what_is_no_program_is_the_command_s_to_answer(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout.strip()) == (0, f"aim-engine {said}"), done.stderr


@pytest.mark.parametrize("program", ["sh", "/bin/sh"])
def test_a_program_runs_as_it_is_in_the_same_process(tmp_path: Path, program: str) -> None:
    script = 'read -r _ name _ < /proc/$$/stat; echo "$name $1"; exit 3'
    done = run(tmp_path, program, "-c", script, "sh", "a b")
    assert (done.returncode, done.stdout) == (3, "(sh) a b\n"), done.stderr
