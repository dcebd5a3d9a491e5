"""What a hostile or careless user gives: closed streams, full disks, senseless values, odd inventories."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

PLAN = ("plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:8")


def shell(redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    line = " ".join([sys.executable, "-m", "aim_engine.cli.main", *words, redirection])
    return subprocess.run(["sh", "-c", line], check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "words", [PLAN, ("plan", "--help"), ("settings", "--help"), ("--version",), ("detect", "--json"), ("settings",)]
)
def test_a_result_that_nobody_can_get_is_a_failure(words: tuple[str, ...]) -> None:
    for redirection in (">&-", ">/dev/full", "<&- >&- 2>&-"):
        ran = shell(redirection, *words)
        assert (ran.returncode, ran.stdout) == (42, "")
        if "2>" not in redirection:
            assert "cannot be written to stdout" in json.loads(ran.stderr.splitlines()[-1])["message"]
            assert "Traceback" not in ran.stderr
            assert "Exception ignored" not in ran.stderr


def test_a_closed_stdin_or_stderr_is_no_error() -> None:
    for redirection in ("<&-", "2>&-", "<&- 2>&-"):
        assert shell(redirection, *PLAN).returncode == 0


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_the_exit_code_survives_a_stderr_that_takes_nothing(redirection: str) -> None:
    assert shell(redirection, "plan", "nope").returncode == 10


def test_a_result_that_cannot_be_written_is_a_full_disk() -> None:
    ran = shell(">/dev/full", *PLAN)
    assert ran.returncode == 42
    assert "No space left" in json.loads(ran.stderr.splitlines()[-1])["message"]


@pytest.mark.parametrize(
    "arguments",
    ['{"gpu-memory-utilization": 5}', '{"gpu-memory-utilization": "x"}', '{"block-size": -16}',
     '{"max-num-batched-tokens": "x"}', '{"enforce-eager": "false"}', '{"hf-token": "hf_x"}', '{"headless": true}',
     '{"config": "/etc/passwd"}', '{"tensor-parallel-size": 3}', '{"max-num-seqs": 1, "max-num-seqs": 2}',
     f'{{"block-size": {10**400}}}', f'{{"max-num-batched-tokens": {10**400}}}',
     '{"pipeline-parallel-size": 1000000000000}', '{"kv-cache-memory-bytes": -5}', '{"num-gpu-blocks-override": 0}',
     '{"cpu-offload-gb": -1}'],
)  # fmt: skip
def test_engine_arguments_that_make_no_sense_are_refused(cli: Run, arguments: str) -> None:
    done = cli(*PLAN, "--engine-args", arguments)
    assert (done.code, done.last_words["class"]) == (10, "Input")
    assert "hf_x" not in done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [("{tensor-parallel-size: 4}", "is for 1 GPU"), ("{tensor-parallel-size: 0}", "whole numbers"),
     ("{tensor-parallel-size: x}", "whole numbers"), ("{max-model-len: abc}", "whole number of tokens"),
     ("{gpu-memory-utilization: 5}", "at most 1")],
)  # fmt: skip
def test_values_of_a_recipe_that_make_no_sense_are_the_catalogues_fault(
    cli: Run, tmp_path: Path, args: str, said: str
) -> None:
    folder = tmp_path / "Qwen/Qwen3-32B"
    folder.mkdir(parents=True)
    (folder / "my.yaml").write_text(
        "recipe_id: my\nmodel_id: Qwen/Qwen3-32B\nprecision: bf16\nhardware: {gpu_type: MI300X}\n"
        f"vllm_serve: {{1_gpu: {{args: {args}}}}}\n"
    )
    assert said in cli("validate", str(folder / "my.yaml")).stderr
    done = cli(*PLAN, "--recipe", "my", "--gpu-count", "1", AIM_RECIPES_DIR=str(tmp_path))
    assert (done.code, done.last_words["class"]) == (31, "Catalog")


@pytest.mark.parametrize("checkpoint", ["--help", "$(id)", "../../etc"])
def test_a_checkpoint_is_a_hub_id(cli: Run, tmp_path: Path, checkpoint: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(
        f"recipe_id: my\nmodel_id: a/b\nhuggingface_id: '{checkpoint}'\nprecision: bf16\n"
        "hardware: {gpu_type: MI300X}\nvllm_serve: {1_gpu: {}}\n"
    )
    assert "huggingface_id" in cli("validate", str(path)).stderr


GPU: dict[str, Any] = {"index": 0, "product": "MI300X", "vendor": "amd", "memory_bytes": 1 << 37}


@pytest.mark.parametrize(
    "gpus",
    [[GPU, GPU], [{**GPU, "index": -7}], [{**GPU, "index": 10**20}], [{**GPU, "memory_bytes": 10**400}],
     [{**GPU, "memory_bytes": True}], [{**GPU, "memory_free_bytes": -1}], [{**GPU, "memory_free_bytes": 1 << 38}],
     [{**GPU, "product": "\x1b[2J"}]],
)  # fmt: skip
def test_an_inventory_that_makes_no_sense_is_refused(cli: Run, tmp_path: Path, gpus: list[dict[str, Any]]) -> None:
    path = tmp_path / "host.json"
    path.write_text(json.dumps({"source": "x", "gpus": gpus}))
    done = cli("plan", "Qwen/Qwen3-32B", "--hardware", str(path))
    assert (done.code, done.last_words["class"]) == (10, "Input")
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("wish", ["a" * 300, "MI300X:" + "9" * 5000])
def test_a_very_long_wish_for_hardware_is_an_input_error(cli: Run, wish: str) -> None:
    done = cli("plan", "Qwen/Qwen3-32B", "--hardware", wish)
    assert (done.code, len(done.last_words["message"]) < 200) == (10, True)


def test_a_host_that_cannot_be_is_refused(cli: Run, tmp_path: Path) -> None:
    host = {"cores": 1, "numa_nodes": 1, "memory_bytes": 10**400, "memory_available_bytes": 1, "architecture": "x"}
    path = tmp_path / "host.json"
    path.write_text(json.dumps({"source": "x", "gpus": [GPU], "host": host}))
    assert cli("detect", "--hardware", str(path)).code == 10


def test_an_address_of_a_hub_that_cannot_be_read(cli: Run, tmp_path: Path) -> None:
    words = ("plan", "org/nobody-has-this", "--hardware", "cpu")
    done = cli(*words, HF_ENDPOINT="http://user:hunter2@[::1", AIM_CACHE_DIR=str(tmp_path))
    assert (done.code, done.last_words["message"]) == (10, "HF_ENDPOINT is no address of a hub")
    assert "hunter2" not in done.stderr
