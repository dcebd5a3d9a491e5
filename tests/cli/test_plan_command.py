"""`plan`, `dry-run` and `serve` up to the point where something would be started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from aim_engine.catalog.load import catalog_folders, load_catalog
from tests.building import MODEL, write_model
from tests.cli.conftest import Run
from tests.test_plan import CONTRACT


def test_a_plan_in_words(cli: Run) -> None:
    done = cli("plan", MODEL, "--hardware", "MI300X:8")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{MODEL} on 8 x MI300X: qwen3-32b-mi300x-bf16\n")
    assert "Why not the others" in done.stdout


@pytest.mark.parametrize("words", [["--json"], ["--format", "json"]])
def test_a_plan_as_json_keeps_its_contract(cli: Run, words: list[str]) -> None:
    done = cli("plan", MODEL, "--hardware", "MI300X:8", *words)
    assert (done.code, done.stderr) == (0, "")
    assert done.json.keys() >= CONTRACT
    assert [rung["name"] for rung in done.json["ladder"]][:2] == ["context", "memory share"]


def test_a_plan_by_variables_alone(cli: Run) -> None:
    done = cli("plan", "--json", AIM_MODEL_ID=MODEL, AIM_GPU_MODEL="MI300X", AIM_GPU_COUNT="4")
    assert (done.json["gpu_count"], done.json["tensor_parallel_size"]) == (4, 4)
    assert done.json["origins"]["AIM_HARDWARE"] == "environment"


@pytest.mark.parametrize(("flag", "count"), [("--gpu-count", 2), ("--gpus", 2), (None, 8)])
def test_the_count_has_two_flags(cli: Run, flag: str | None, count: int) -> None:
    words = [flag, "2"] if flag else []
    assert cli("plan", MODEL, "--hardware", "MI300X:8", *words, "--json").json["gpu_count"] == count


@pytest.mark.parametrize(
    ("words", "forced"), [(["--force"], True), (["--force", "1"], True), (["--force", "0"], False)]
)
def test_a_switch_with_and_without_its_value(cli: Run, words: list[str], forced: bool) -> None:
    done = cli("plan", MODEL, "--hardware", "MI300X:1", "--recipe", "qwen3-32b-mi300x-fp8", "--precision", "bf16",
               "--json", *words)  # fmt: skip
    assert done.code == (0 if forced else 30)


def test_a_refusal_in_words_is_on_stderr(cli: Run) -> None:
    done = cli("plan", MODEL, "--hardware", "MI250:8", "--min-evidence", "reported")
    assert (done.code, done.stdout) == (30, "")
    assert "What was looked at" in done.stderr
    assert done.last_words["class"] == "NoRecipe"


def test_a_refusal_as_json_is_on_stdout_with_the_code(cli: Run) -> None:
    done = cli("plan", MODEL, "--hardware", "MI300X:2", "--gpu-count", "4", "--json")
    assert done.code == done.json["error"]["code"] == done.last_words["code"] == 20
    assert done.json.keys() == {"error", "changes", "candidates"}
    assert done.json["error"].keys() >= {"class", "code", "message", "hint"}
    recipes = load_catalog(MODEL, catalog_folders()).recipes
    assert len(done.json["candidates"]) == sum(len(one.variants) for one in recipes)


def test_warnings_of_the_request_are_in_the_plan(cli: Run) -> None:
    done = cli("plan", MODEL, "--hardware", "MI300X:1", "--json", AIM_MODLE="x")
    assert done.json["warnings"] == ["AIM_MODLE is not a setting of AIM Engine and is ignored; did you mean AIM_MODEL?"]


def test_what_detect_prints_can_be_planned_for(cli: Run, tmp_path: Path) -> None:
    """Byte for byte; only the name of the file stands where the text was."""
    recorded = tmp_path / "host.json"
    recorded.write_text(cli("detect", "--json", "--hardware", "MI300X:8").stdout)
    text = cli("plan", MODEL, "--hardware", "MI300X:8", "--json")
    file = cli("plan", MODEL, "--hardware", str(recorded), "--json")
    assert file.stdout == text.stdout
    in_words = cli("plan", MODEL, "--hardware", str(recorded)).stdout
    assert in_words == cli("plan", MODEL, "--hardware", "MI300X:8").stdout.replace(
        "AIM_HARDWARE = MI300X:8", f"AIM_HARDWARE = {recorded}"
    )


def test_what_is_here_can_be_recorded_and_planned_for(cli: Run, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    recorded = tmp_path / "host.json"
    recorded.write_text(cli("detect", "--json", "--hardware", "cpu").stdout)
    live = cli("plan", str(model), "--hardware", "cpu", "--json").json
    read_back = cli("plan", str(model), "--hardware", str(recorded), "--json").json
    for key in CONTRACT - {"gpus", "memory", "command", "origins", "candidates"}:
        assert live[key] == read_back[key], key


def test_a_local_model_is_planned_from_its_own_files(cli: Run, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    done = cli("plan", str(model), "--hardware", "cpu", "--json")
    assert done.json["recipe_id"] == "cpu-any-bf16"
    assert done.json["huggingface_id"] == str(model)
    weights = done.json["memory"]["lines"][0]
    assert (weights["bytes"], weights["basis"]) == (2 * 512 * 64, "exact")


def test_a_cached_model_is_planned_without_the_network(cli: Run, tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--org--name"
    write_model(home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    for environment in ({"AIM_CACHE_DIR": str(tmp_path)}, {"HF_HOME": str(tmp_path)},
                        {"HF_HUB_CACHE": str(tmp_path / "hub")}):  # fmt: skip
        done = cli("plan", "org/name", "--hardware", "cpu", "--json", AIM_OFFLINE="1", **environment)
        assert done.json["memory"]["lines"][0]["bytes"] == 2 * 512 * 64


def test_dry_run_is_plan_by_another_name(cli: Run) -> None:
    assert cli("dry-run", MODEL, "--hardware", "MI300X:8").stdout == cli("plan", MODEL, "--hardware", "MI300X:8").stdout


def test_dry_run_as_json_prints_the_profiles_alone(cli: Run) -> None:
    done = cli("dry-run", "--format=json", AIM_MODEL_ID=MODEL, AIM_GPU_MODEL="MI300X", AIM_GPU_COUNT="2",
               AIM_LOG_LEVEL="CRITICAL", AIM_LOG_LEVEL_ROOT="CRITICAL", AIM_METRIC="latency")  # fmt: skip
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("[")
    (profile,) = done.json
    assert profile["profile"]["metadata"]["gpu_count"] == 2


@pytest.mark.parametrize("words", [["--hardware", "MI250:8", "--min-evidence", "reported"], ["--hardware", "cpu"],
                                   ["--hardware", "MI300X:1", "--gpu-count", "8"]])  # fmt: skip
def test_dry_run_without_a_match_is_an_empty_array(cli: Run, words: list[str]) -> None:
    done = cli("dry-run", MODEL, *words, "--format=json", AIM_MODEL=MODEL)
    assert (done.code, done.stdout) == (0, "[]\n")
    assert done.stderr.startswith("no profile: ")
    silent = cli("dry-run", MODEL, *words, "--format=json", AIM_MODEL=MODEL, AIM_LOG_LEVEL="CRITICAL")
    assert (silent.code, silent.stdout, silent.stderr) == (0, "[]\n", "")


def test_dry_run_as_yaml_says_the_same(cli: Run) -> None:
    words = ("dry-run", MODEL, "--hardware", "MI300X:8")
    assert yaml.safe_load(cli(*words, "--format=yaml").stdout) == cli(*words, "--format=json").json


def test_yaml_is_for_dry_run_only(cli: Run) -> None:
    done = cli("plan", MODEL, "--hardware", "MI300X:8", "--format", "yaml")
    assert (done.code, done.stdout, done.last_words["class"]) == (2, "", "Usage")


def test_serving_on_declared_hardware_is_refused(process: Run, tmp_path: Path) -> None:
    done = process("serve", MODEL, "--hardware", "MI300X:8", TMPDIR=str(tmp_path))
    assert done.code == 10
    assert done.last_words["message"] == "cannot serve on declared hardware (8 x MI300X)"


def test_no_network_is_touched_when_offline(process: Run, tmp_path: Path) -> None:
    """A process that may not open a socket plans for a model that nobody knows here."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "def hear(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto'):\n"
        "        raise SystemExit('the network was touched')\n"
        "sys.addaudithook(hear)\n"
    )
    done = process("plan", "org/unknown", "--hardware", "cpu", "--json", AIM_OFFLINE="1", PYTHONPATH=str(tmp_path))
    assert done.code == 0
    assert done.json["command"]["env"]["HF_HUB_OFFLINE"] == "1"
    assert json.dumps(done.json["warnings"]).count("was not checked") == 1


@pytest.mark.parametrize(("changes", "guessed"), [({}, False), ({"model_type": "new9", "ssm_state_size": 16}, True)])
def test_a_family_that_nobody_lists_is_warned_of(
    cli: Run, tmp_path: Path, changes: dict[str, object], guessed: bool
) -> None:
    done = cli("plan", str(write_model(tmp_path / "m", changes)), "--hardware", "MI300X:1", "--json")
    line = next(line for line in done.json["memory"]["lines"] if line["name"] == "kv cache")
    assert (line["basis"] == "assumed") is (line["low_bytes"] < line["high_bytes"]) is guessed
    why = "model_type new9 is not one that AIM Engine knows, and its config names ssm_state_size"
    assert any(why in warning for warning in done.json["warnings"]) is guessed


AUTO_MAP = {"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}}


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, 30,
         "the checkpoint is stored as bitsandbytes, which vllm 0.32.0 (the newest that is known here) does not load"),
        ({"architectures": ["T5ForConditionalGeneration"]}, 40, "is an encoder-decoder model"),
        ({"architectures": ["OwnForCausalLM"], **AUTO_MAP}, 10, "needs code of its own (OwnForCausalLM; auto_map"),
    ],
)  # fmt: skip
def test_what_the_engine_would_not_load_is_refused_before_it_is_started(
    cli: Run, tmp_path: Path, changes: dict[str, object], code: int, said: str
) -> None:
    done = cli("plan", str(write_model(tmp_path / "m", changes)), "--hardware", "MI300X:1", "--json")
    assert done.code == code
    assert said in done.last_words["message"]
    assert done.last_words["hint"]


def test_the_setting_that_the_hint_names_is_enough(cli: Run, tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "m", {"architectures": ["OwnForCausalLM"], **AUTO_MAP}))
    told = cli("plan", folder, "--hardware", "MI300X:1", "--json").json["error"]["hint"]
    name, _, value = told.partition("set ")[2].partition("=")
    done = cli("plan", folder, "--hardware", "MI300X:1", "--json", **{name: value})
    assert done.code == 0
    assert "--trust-remote-code" in done.json["command"]["argv"]
    assert cli("plan", folder, "--hardware", "MI300X:1", "--json", AIM_FORCE="1").code == 0


def test_weights_of_four_bits_are_not_taken_for_sixteen(cli: Run, tmp_path: Path) -> None:
    group = {"weights": {"num_bits": 4, "type": "int"}}
    said = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    done = cli(
        "plan", str(write_model(tmp_path / "m", {"quantization_config": said})), "--hardware", "MI300X:1", "--json"
    )
    assert (done.code, done.json["precision"]) == (0, "int4")
