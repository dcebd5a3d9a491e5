"""Recipes before the real sglang's own parser, in the environment that scripts/sglang-parser makes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from aim_engine.errors import CatalogError
from tests.runtime.server import ROOT

pytestmark = pytest.mark.engine

FOLDER = Path(os.environ.get("AIM_SGLANG_FOLDER", ROOT / ".sglang"))
_RECIPE = """
recipe_id: seeded
model_id: Qwen/Qwen3-32B
precision: bf16
hardware: {gpu_type: MI300X}
sglang_serve:
  1_gpu:
    args:
      tp: 1
      context-lenght: 4096
      max-running-requests: many
      quantization: fp9
      cuda-graph-max-bs: 4
      disable-radix-cache: true
    env: {SGLANG_USE_AITTER: "1", SGLANG_USE_AITER: "1", SGLANG_AITER_MLA_PERSIST: "1", HSA_NO_SCRATCH_RECLAIM: "1"}
"""
_OPTIONS = """
import argparse, contextlib, io, json
with contextlib.redirect_stdout(io.StringIO()):
    from sglang.srt.server_args import ServerArgs
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
print(json.dumps([name[2:] for name in parser._option_string_actions if name[:2] == "--"]))
"""


@pytest.fixture(scope="module", autouse=True)
def there() -> None:
    if not (FOLDER / "ready").exists():
        pytest.skip("sglang is not here: scripts/sglang-parser fetches it")


def validate(*words: str) -> tuple[int, str]:
    command = [str(ROOT / "scripts" / "sglang-parser"), "validate", "--engine", *words]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    return ran.returncode, ran.stdout


def test_every_shipped_recipe_passes() -> None:
    code, printed = validate()
    assert (code, "no errors" in printed) == (0, True)


def test_a_seeded_error_of_each_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "seeded.yaml"
    path.write_text(_RECIPE)
    code, printed = validate("--json", str(path))
    assert code == CatalogError.code
    problems = {one["key"].removeprefix("sglang_serve.1_gpu."): one for one in json.loads(printed)["problems"]}
    assert {key: one["kind"] for key, one in problems.items()} == {
        "args.context-lenght": "unknown", "args.max-running-requests": "ill-typed", "args.quantization": "ill-typed",
        "env.SGLANG_USE_AITTER": "unknown",
    }  # fmt: skip
    assert "context-length?" in problems["args.context-lenght"]["sentence"]
    assert "SGLANG_USE_AITER?" in problems["env.SGLANG_USE_AITTER"]["sentence"]


def test_the_options_that_were_read_from_its_source_are_those_of_its_parser() -> None:
    ran = subprocess.run([FOLDER / "bin" / "python", "-c", _OPTIONS], check=True, capture_output=True, text=True)
    parsers = set(json.loads(ran.stdout.splitlines()[-1])) - {"help"}
    data = json.loads((ROOT / "aim_engine" / "backends" / "sglang_options.json").read_text())
    newest = {name for name, (_, last) in data["options"].items() if last == data["grid"][-1]}
    assert parsers - newest == {f"no-{name}" for name in data["switches"] if name in newest}
    assert newest <= parsers
