"""`aim-engine recipe new`: what it prints and writes, that it can be planned with, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from aim_engine.catalog.load import Catalog, catalog_folders, load_catalog
from aim_engine.cli.recipe_new import name_in_ids
from tests.cli.conftest import Run

MODEL = "Qwen/Qwen3-32B"
SHORTENED = "Qwen/Qwen3-VL-235B-A22B-Instruct"


def test_a_recipe_to_edit(cli: Run) -> None:
    done = cli("recipe", "new", MODEL, "--hardware", "MI250:4")
    assert done.code == 0
    made = yaml.safe_load(done.stdout)
    assert (made["recipe_id"], made["hardware"]) == ("qwen3-32b-mi250-bf16", {"gpu_type": "MI250"})
    assert made["evidence"]["level"] == "derived"
    assert {count: one["enabled"] for count, one in made["vllm_serve"].items()} == {
        "1_gpu": False, "2_gpu": True, "4_gpu": True, "8_gpu": True}  # fmt: skip
    assert made["vllm_serve"]["2_gpu"]["args"]["max-model-len"] == 40960
    assert "  # does not fit by 8" in done.stdout
    assert "  # not checked: fewer GPUs are here" in done.stdout


def test_it_is_written_where_it_is_found_and_can_be_planned_with(cli: Run, tmp_path: Path) -> None:
    folder = tmp_path / "my recipes"
    done = cli("recipe", "new", MODEL, "--hardware", "MI250:8", "--into", str(folder))
    path = folder / MODEL / "qwen3-32b-mi250-bf16.yaml"
    assert (done.code, done.stdout) == (0, f"{path}\n")
    assert cli("validate", str(folder)).code == 0
    schema = path.parent / path.read_text().splitlines()[0].partition("$schema=")[2]
    assert json.loads(schema.read_text())["title"] == "A recipe of AIM Engine"
    plan = cli("plan", MODEL, "--hardware", "MI250:8", "--recipes-dir", str(folder), "--json").json
    assert (plan["recipe_id"], plan["tensor_parallel_size"]) == ("qwen3-32b-mi250-bf16", 8)
    path.write_text("mine")
    again = cli("recipe", "new", MODEL, "--hardware", "MI250:8", "--into", str(folder))
    assert (again.code, path.read_text()) == (10, "mine")


def test_one_that_is_there_already_is_named(cli: Run) -> None:
    done = cli("recipe", "new", MODEL, "--hardware", "MI300X:8")
    assert done.code == 0
    assert "warning: there is a recipe already, qwen3-32b-mi300x-bf16" in done.stderr
    assert "warning" not in cli("recipe", "new", MODEL, "--hardware", "MI250:8").stderr


def test_its_id_is_as_the_catalogues_are_so_that_the_warning_is_true(cli: Run, tmp_path: Path) -> None:
    words = ("zai-org/GLM-4.5-Air", "--hardware", "MI300X:8")
    shown = cli("recipe", "new", *words, "--precision", "fp8")
    known = "glm-4.5-air-mi300x-fp8"
    assert f"there is a recipe already, {known}, and nobody has tuned this one, which takes its place" in shown.stderr
    assert yaml.safe_load(shown.stdout)["recipe_id"] == known
    other = cli("recipe", "new", MODEL, "--hardware", "MI300X:8")
    assert "qwen3-32b-mi300x-fp8, and nobody has tuned this one, which competes with it" in other.stderr


def test_the_name_in_an_id_keeps_its_dots_where_no_recipe_has_it_shorter() -> None:
    nothing = Catalog(recipes=())
    assert name_in_ids("org/GLM_4.5-Air.", nothing) == "glm-4.5-air"
    shorter = next(one for one in load_catalog(SHORTENED, catalog_folders()).recipes if not one.is_family)
    assert name_in_ids(SHORTENED, Catalog(recipes=(shorter,))) == "qwen3-vl-235b"


def test_one_for_sglang_has_sglangs_options(cli: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    words = (MODEL, "--hardware", "MI250:8", "--backend", "sglang")
    path = cli("recipe", "new", *words, "--into", str(folder)).stdout.strip()
    args = yaml.safe_load(Path(path).read_text())["sglang_serve"]["2_gpu"]["args"]
    assert args["context-length"] == 40960
    assert "max-model-len" not in args
    assert cli("validate", str(folder)).code == 0
    plan = cli("plan", *words, "--recipes-dir", str(folder), "--json")
    assert (plan.code, plan.json["recipe_id"], plan.json["backend"]) == (0, "qwen3-32b-mi250-bf16", "sglang")


def test_a_model_without_a_recipe_is_planned_for(cli: Run) -> None:
    plan = cli("plan", MODEL, "--hardware", "MI250:8", "--json").json
    assert (plan["recipe_id"], plan["evidence"]["level"]) == ("derived-mi250-bf16", "derived")
    assert (plan["tensor_parallel_size"], plan["max_model_len"]) == (2, 40960)
    pinned = cli("plan", MODEL, "--hardware", "MI250:8", "--recipe", "derived-mi250-bf16", "--gpus", "4", "--json").json
    assert pinned["tensor_parallel_size"] == 4


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["org/nobody", "--hardware", "MI300X:8", "--offline"], 30, "not enough is known of org/nobody"),
        ([MODEL, "--hardware", "MI300X:4,MI325X:4"], 10, "a recipe is for one kind of GPU"),
        ([MODEL, "--hardware", "cpu"], 10, "a recipe is for one kind of GPU"),
        (["/nowhere", "--hardware", "MI300X:8"], 40, "there is no folder /nowhere"),
        ([MODEL, "--hardware", "MI300X:8", "--into", "/proc/x"], 42, "cannot be written"),
    ],
)
def test_refused(cli: Run, words: list[str], code: int, message: str) -> None:
    done = cli("recipe", "new", *words)
    assert (done.code, done.stdout) == (code, "")
    assert message in done.last_words["message"]
    assert done.last_words["hint"]
    assert json.loads(done.stderr.strip().splitlines()[-1])["code"] == code
