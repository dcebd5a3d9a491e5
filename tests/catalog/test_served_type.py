"""In what a checkpoint without quantisation is served: what its config says, what its tensors are, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.checkpoint_card import card_of
from aim_engine.catalog.model_files import checkpoint_in
from aim_engine.decide import decide
from aim_engine.plan import Plan
from aim_engine.request import read_request
from tests.building import safetensors, write_model

HALF = "its weights are in fp32, and are served in bf16, in half the memory"
CASES: list[tuple[dict[str, Any], dict[str, int], str, str]] = [
    ({"torch_dtype": "bfloat16"}, {"BF16": 2}, "bf16", ""),
    ({"torch_dtype": "float16"}, {"F16": 2}, "fp16", ""),
    ({"torch_dtype": None, "dtype": "float16"}, {"F16": 2}, "fp16", ""),
    ({"torch_dtype": "float32"}, {"F32": 4}, "bf16", HALF),
    ({"torch_dtype": None}, {"F32": 4}, "bf16", HALF),
    ({"torch_dtype": None}, {"BF16": 2}, "bf16", ""),
    ({"torch_dtype": None}, {"F16": 2}, "fp16", ""),
    ({"torch_dtype": None}, {"F16": 2, "F32": 4}, "bf16", HALF),
    ({"torch_dtype": None}, {"F16": 2, "BF16": 2}, "bf16",
     "its config.json says nothing of the type of its weights, and they are served in bf16"),
    ({"torch_dtype": "float16", "model_type": "gemma2"}, {"F16": 2}, "bf16",
     "its weights are in fp16, which the engine refuses for gemma2: bf16 is served"),
]  # fmt: skip


def folder_of(folder: Path, config: dict[str, Any], stored: dict[str, int]) -> Path:
    tensors = {f"model.layers.0.{dtype}.weight": (dtype, (8, 8), width) for dtype, width in stored.items()}
    return write_model(folder, config, safetensors(tensors))


@pytest.mark.parametrize(("config", "stored", "precision", "note"), CASES)
def test_what_is_served(
    tmp_path: Path, config: dict[str, Any], stored: dict[str, int], precision: str, note: str
) -> None:
    card = card_of(checkpoint_in(folder_of(tmp_path / "m", config, stored), "m"))
    assert (card.precision, card.notes) == (precision, (note,) if note else ())
    assert card.weights_bytes["bf16"] == card.weights_bytes["fp16"] == 2 * 64 * len(stored)


@pytest.mark.parametrize("said", ["float32", None])
def test_gpus_serve_a_folder_in_32_bits_and_the_plan_says_in_what(tmp_path: Path, said: str | None) -> None:
    folder = folder_of(tmp_path / "m", {"torch_dtype": said}, {"F32": 4})
    plan = decide(read_request({"model": str(folder), "hardware": "MI300X:1"}, {}))
    assert isinstance(plan, Plan)
    assert plan.winner.recipe.precision == "bf16"
    assert HALF in plan.notes


@pytest.mark.parametrize("hardware", ["MI300X:1", "cpu"])
def test_the_command_says_the_type_where_the_engine_would_take_any(tmp_path: Path, hardware: str) -> None:
    folder = folder_of(tmp_path / "m", {"torch_dtype": None}, {"F16": 2, "BF16": 2})
    plan = decide(read_request({"model": str(folder), "hardware": hardware}, {}))
    assert isinstance(plan, Plan)
    assert "--dtype bfloat16" in " ".join(plan.command.argv).replace("--dtype=", "--dtype ")
