"""Recipes before the installed engine's own parser: the shipped ones pass, a seeded error of each kind is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aim_engine.errors import CatalogError

pytestmark = pytest.mark.engine

_RECIPE = """
recipe_id: seeded
model_id: Qwen/Qwen3-32B
precision: bf16
hardware: {gpu_type: MI300X}
vllm_serve:
  1_gpu:
    args:
      max-model-lenn: 4096
      dtype: float8_e4m3
      max-num-seqs: many
      task: generate
      swap-space: 64
      compilation-config: {cudagraph_mode: FULL_AND_PIECEWISE}
    env: {VLLM_ROCM_USE_AITTER: "1", HSA_NO_SCRATCH_RECLAIM: "1"}
"""


def validate(*words: str) -> tuple[int, str]:
    """The command as a process of its own: vLLM warns while it is imported, and here warnings are errors."""
    command = [sys.executable, "-m", "aim_engine.cli.main", "validate", "--engine", *words]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    return ran.returncode, ran.stdout


def test_every_shipped_recipe_passes() -> None:
    code, printed = validate()
    assert code == 0
    assert "no errors" in printed


def test_a_seeded_error_of_each_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "seeded.yaml"
    path.write_text(_RECIPE)
    code, printed = validate("--json", str(path))
    assert code == CatalogError.code
    problems = json.loads(printed)["problems"]
    found = {problem["key"].removeprefix("vllm_serve.1_gpu."): problem["sentence"] for problem in problems}
    assert set(found) == {
        "args.max-model-lenn", "args.dtype", "args.max-num-seqs", "args.task", "env.VLLM_ROCM_USE_AITTER"
    }  # fmt: skip
    assert "max-model-len?" in found["args.max-model-lenn"]
    assert "runner" in found["args.task"]
    assert "VLLM_ROCM_USE_AITER?" in found["env.VLLM_ROCM_USE_AITTER"]
    assert all(problem["item"] == "recipe seeded" for problem in problems)
