"""The README is true: its commands parse, what it says they print is printed, its recipe is one."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import pytest

from aim_engine.catalog.recipe import read_recipe
from aim_engine.cli.main import build_parser, main
from aim_engine.errors import error_classes

README = (Path(__file__).parent.parent / "README.md").read_text()


def commands() -> list[str]:
    indented = re.findall(r"^    (aim-engine .*)$", README, re.MULTILINE)
    quoted = re.findall(r"`(aim-engine [a-z-]+ [^`]*)`", README)
    return sorted({line.partition("#")[0].strip() for line in [*indented, *quoted] if "COMMAND" not in line})


def block_after(line: str) -> list[str]:
    """The lines of the first fenced block below a line."""
    return README.partition(line)[2].partition("```text\n")[2].partition("\n```")[0].splitlines()


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_parses(command: str) -> None:
    words = [word.strip("[].") or "x" for word in shlex.split(command)][1:]
    assert build_parser().parse_args([word for word in words if not word.startswith("[")])


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 6


def test_the_plan_prints_what_the_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:8"]) == 0
    printed = iter(capsys.readouterr().out.splitlines())
    for line in block_after("aim-engine plan Qwen/Qwen3-32B --hardware MI300X:8"):
        start, cut, _ = line.partition("[...]")
        if not start.strip():
            continue
        assert any(one.startswith(start) if cut else one == line for one in printed), line


def test_the_exit_codes_are_all_there() -> None:
    rows = re.findall(r"^\| (\d+(?:, \d+)*) \|", README, re.MULTILINE)
    codes = {int(code) for row in rows for code in row.split(", ")}
    signals = {128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)}  # as the shell counts
    assert codes == {0, *(error.code for error in error_classes()), *signals}


def test_the_recipe_is_one(tmp_path: Path) -> None:
    text = README.partition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "qwen3-32b-mi300x-bf16.yaml"
    path.write_text(text)
    recipe, problems = read_recipe(path)
    assert problems == []
    assert recipe
    assert [variant.metric for variant in recipe.variants] == [None, "latency"]
