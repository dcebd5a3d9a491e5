"""docs/recipes.md is true: its commands run one after the other, its recipe is one and is used, its words are so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from aim_engine.cli.main import main
from tests.building import ROOT

PAGE = (ROOT / "docs" / "recipes.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
(RECIPE,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILE = Path("my-recipes/Qwen/Qwen3-8B/qwen3-8b-mi250-bf16.yaml")


def test_the_page_from_its_beginning_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the first command the file is there; then it is changed to what the page shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIM_RECIPES_DIR", raising=False)
    said = {}
    for number, command in enumerate(COMMANDS):
        assert main(shlex.split(command)[1:]) == 0, command
        said[command.split("aim-engine ")[1].partition(" ")[0] + str(number)] = capsys.readouterr().out
        if number == 0:
            assert FILE.is_file()
            assert str(FILE) in PAGE
            FILE.write_text(RECIPE)
    assert len(COMMANDS) == 7
    assert said["validate1"] == "1 files, no errors\n"
    assert re.search(r"max-num-seqs +128\n", said["recipe2"])
    assert "is chosen on 4 x MI250" in said["recipe3"]
    assert re.search(r"gpu_type +MI300X +MI250\n", said["recipe4"])
    assert f"recipe      {FILE}" in said["plan5"]
    assert "--max-num-seqs 128" in said["plan5"]
    assert re.search(r"qwen3-8b-mi250-bf16 .* chosen", said["recipes6"])


def test_a_recipe_of_a_built_in_ones_id_takes_its_place_and_the_plan_says_which_file_won(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    name = "qwen3-32b-mi300x-bf16"
    shipped = ROOT / f"recipes/Qwen/Qwen3-32B/{name}.yaml"
    mine = tmp_path / f"Qwen/Qwen3-32B/{name}.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(shipped.read_text())
    monkeypatch.setenv("AIM_RECIPES_DIR", str(tmp_path))
    assert main(["plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:8", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["recipe_id"], plan["recipe_file"]) == (name, str(mine))
    assert f"recipe {name}: {mine} is used instead of {shipped}" in plan["notes"]
    assert main(["plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:8"]) == 0
    assert f"  recipe      {mine}\n" in capsys.readouterr().out


def test_a_plan_without_a_file_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "Qwen/Qwen3-32B", "--hardware", "MI250:8"]) == 0
    assert "  recipe      made from the model's own numbers; in no file\n" in capsys.readouterr().out
