"""`aim-engine recipe show|diff|explain`: what they print, of recipes by id and by file, and what they refuse."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.building import ROOT, write_recipe
from tests.cli.conftest import Run

FP8, BF16 = "qwen3-32b-mi300x-fp8", "qwen3-32b-mi300x-bf16"
FILE = str(ROOT / f"recipes/Qwen/Qwen3-32B/{FP8}.yaml")


def test_show_resolves_anchors_and_gives_the_very_command_of_a_plan(cli: Run) -> None:
    shown = cli("recipe", "show", FP8, "--json").json
    assert shown["recipe_id"] == FP8
    four = next(one for one in shown["variants"] if one["gpu_count"] == 4)
    assert (four["args"]["tensor-parallel-size"], four["args"]["kv-cache-dtype"]) == (4, "fp8")
    plan = cli("plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:4", "--recipe", FP8, "--gpus", "4", "--json").json
    assert four["command"]["argv"] == plan["command"]["argv"]
    page = cli("recipe", "show", FILE).stdout
    assert shlex.join(plan["command"]["argv"]) in page
    assert page.count("\nvllm on ") == 4
    assert "evidence    reported: " in page


def test_show_of_a_family_stands_for_any_model(cli: Run) -> None:
    (one,) = cli("recipe", "show", "cpu-any-bf16", "--json").json["variants"]
    assert one["command"]["argv"][:3] == ["vllm", "serve", "ORG/MODEL"]


def test_show_says_why_a_variant_has_no_command(cli: Run, tmp_path: Path) -> None:
    text = (
        "recipe_id: big\nmodel_id: meta-llama/Llama-3.1-405B-Instruct\nprecision: bf16\nhardware: {gpu_type: MI300X}\n"
        "vllm_serve:\n  2_gpu: {enabled: false}\nother_serve:\n  1_gpu: {}\n"
    )
    path = write_recipe(tmp_path, "big", text)
    variants = cli("recipe", "show", str(path), "--json").json["variants"]
    assert [one["command"] for one in variants] == [None, None]
    assert [one["reason"].partition(":")[0] for one in variants] == [
        "other is no backend of this installation",
        "it does not fit by 240.8 GiB",
    ]
    assert "vllm on 2 x MI300X, switched off" in cli("recipe", "show", str(path)).stdout


def test_diff_by_variant_and_key(cli: Run) -> None:
    found = cli("recipe", "diff", BF16, FP8, "--json").json["differences"]
    assert {"variant": "vllm 4", "key": "args.dtype", "first": "bfloat16", "second": None} in found
    assert {"variant": "", "key": "precision", "first": "bf16", "second": "fp8"} in found
    page = cli("recipe", "diff", BF16, FP8).stdout
    assert [row for row in page.splitlines() if row.startswith("vllm 1, 2, 4, 8") and "args.dtype" in row]


def test_diff_of_a_recipe_and_itself(cli: Run) -> None:
    done = cli("recipe", "diff", FP8, FILE)
    assert (done.code, done.stdout, done.stderr) == (0, "", "they are the same\n")


def test_explain_what_is_chosen(cli: Run) -> None:
    told = cli("recipe", "explain", BF16, "--hardware", "MI300X:4", "--json").json
    assert (told["chosen"], told["chosen_instead"], told["gpu_count"]) == (True, None, 4)
    by_name = {one["name"]: one for one in told["settings"]}
    most = by_name["max-num-seqs"]
    assert (most["kind"], most["value"], most["origin"]) == ("args", 512, f"recipe {BF16}")
    assert most["meaning"] == "the most requests in one step"
    assert by_name["port"]["origin"] == "AIM Engine"
    assert by_name["VLLM_ROCM_USE_AITER"]["kind"] == "env"
    page = cli("recipe", "explain", BF16, "--hardware", "MI300X:4").stdout
    assert page.startswith(f"{BF16} is chosen on 4 x MI300X\n")
    assert "✓ gpu count: it uses 4 of 4 GPUs" in page
    assert f"✗ {BF16} on 8: gpu count: it needs 8 GPUs" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((FP8, "--hardware", "MI300X:4"), f"is not chosen on 4 x MI300X: {BF16} is"),
        ((BF16, "--hardware", "MI210:8"), "gpu type: it is for MI300X, and here is 8 x MI210"),
        ((BF16, "--hardware", "MI300X:8", "--min-evidence", "served"), "and AIM_MIN_EVIDENCE is served"),
        (("cpu-any-bf16", "--hardware", "cpu", "--model", "Qwen/Qwen3-0.6B"), "is chosen on the CPU"),
    ],
)
def test_explain_what_stands_in_the_way(cli: Run, words: tuple[str, ...], said: str) -> None:
    done = cli("recipe", "explain", *words)
    assert done.code == 0
    assert said in done.stdout
    assert "what it does" in done.stdout


def test_explain_of_a_file_takes_it_in_place_of_the_built_in_one(cli: Run, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, BF16)
    told = cli("recipe", "explain", str(path), "--hardware", "MI300X:1", "--json").json
    assert (told["file"], told["chosen"]) == (str(path), True)
    assert "max-num-seqs" not in {one["name"] for one in told["settings"]}


def test_the_users_folder_comes_first(cli: Run, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, FP8, precision="fp8")
    assert cli("recipe", "show", FP8, "--json", AIM_RECIPES_DIR=str(tmp_path)).json["file"] == str(path)


@pytest.mark.parametrize("action", ["show", "explain"])
def test_an_unknown_id_is_met_with_the_nearest(cli: Run, action: str) -> None:
    done = cli("recipe", action, "qwen3-32b-mi300-fp8")
    assert done.code == 30
    assert f"did you mean {FP8}" in done.last_words["hint"]
    assert cli("recipe", action, "/nowhere/x.yaml").last_words["message"].endswith("there is no such file")


def test_a_broken_file_is_told_as_such(cli: Run, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "broken", "recipe_id: broken\npresicion: x\n")
    done = cli("recipe", "show", str(path))
    assert done.code == 31
    assert "did you mean precision?" in done.stderr


def test_a_shell_offers_the_ids(cli: Run) -> None:
    assert FP8 in cli("completion", "bash").stdout
