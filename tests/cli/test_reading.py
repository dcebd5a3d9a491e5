"""What a newcomer stumbles over: misspelt flags, recipes nothing can reach, lists without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

RECIPE = """recipe_id: mine
model_id: {model}
precision: bf16
hardware: {{gpu_type: {gpu}}}
vllm_serve: {{1_gpu: {{args: {{{option}: 0.9}}}}}}
"""


def recipe(folder: Path, *, gpu: str = "MI300X", option: str = "gpu-memory-utilization") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.yaml"
    path.write_text(RECIPE.format(model="Qwen/Qwen3-32B", gpu=gpu, option=option))
    return path


def test_a_misspelt_flag_names_the_nearest(cli: Run) -> None:
    done = cli("plan", "Qwen/Qwen3-32B", "--precisoin", "int4")
    assert done.code == 2
    assert "did you mean --precision?" in done.last_words["hint"]


def test_no_command_shows_the_help(cli: Run) -> None:
    done = cli()
    assert done.code == 2
    assert "aim-engine plan Qwen/Qwen3-32B" in done.stderr


def test_a_placeholder_in_the_help_is_a_word_or_the_legal_ones(cli: Run) -> None:
    page = cli("plan", "--help").stdout
    assert "--precision auto|fp4|fp8" in page
    assert "--gpu-count COUNT" in page
    assert "|or|" not in page


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"gpu": "MI3000X"}, "hardware.gpu_type", "did you mean MI300X"),
        ({"option": "gpu-memory-utilisation"}, "args.gpu-memory-utilisation", "did you mean gpu-memory-utilization?"),
        ({"option": "no-enable-log-requests"}, "args.no-enable-log-requests", "enable-log-requests: false"),
        ({"option": "api-key"}, "args.api-key", "AIM_API_KEY"),
    ],
)
def test_validate_finds_what_keeps_a_recipe_from_being_used(
    cli: Run, tmp_path: Path, changes: dict[str, str], key: str, said: str
) -> None:
    done = cli("validate", str(recipe(tmp_path, **changes)))
    assert done.code == 31
    assert key in done.stderr
    assert said in done.stderr


def test_a_recipe_in_the_catalogues_own_folder_is_said_to_be_unread(cli: Run, tmp_path: Path) -> None:
    recipe(tmp_path)
    assert "is never read here" in cli("validate", AIM_RECIPES_DIR=str(tmp_path)).stderr
    plan = cli("plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:1", AIM_RECIPES_DIR=str(tmp_path))
    assert plan.code == 0
    assert "is never read here" in plan.stdout


def test_recipes_without_a_model_say_that_a_familys_depends_on_it(cli: Run) -> None:
    lines = cli("recipes", "--hardware", "cpu").stdout.splitlines()
    assert next(line for line in lines if line.startswith("cpu-any-bf16")).endswith("works, if the model fits")
    assert next(line for line in lines if line.startswith("qwen3-32b-mi300x-bf16")).endswith("and here is CPU")


def test_a_misspelt_setting_is_said_although_the_plan_fails(cli: Run) -> None:
    done = cli("plan", "Qwen/Qwen3-32B", "--hardware", "MI250:8", "--min-evidence", "reported", AIM_PRECISON="fp8")
    assert done.code == 30
    assert "did you mean AIM_PRECISION?" in done.stderr


def test_completion_offers_the_legal_words(cli: Run) -> None:
    assert "throughput" in cli("completion", "bash").stdout


def test_half_a_certificate_is_refused(cli: Run) -> None:
    done = cli("plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:1", AIM_TLS_CERT="/cert.pem")
    assert (done.code, done.last_words["hint"]) == (10, "set both, or neither")


def test_a_parallel_size_is_not_for_the_engines_arguments(cli: Run) -> None:
    words = ("plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:8", "--engine-args", '{"tensor-parallel-size": 4}')
    assert cli(*words).code == 10


def test_a_recipe_for_a_backend_that_is_not_here_is_no_error(cli: Run, tmp_path: Path) -> None:
    path = recipe(tmp_path)
    path.write_text(path.read_text() + "sglang_serve: {1_gpu: {args: {tp: 1}}}\n")
    assert cli("validate", str(path)).code == 0
