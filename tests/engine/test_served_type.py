"""What the installed vLLM makes of `dtype auto`, beside what the card of the same folder says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # or a neighbour is not importable (--import-mode=importlib)

from aim_engine.catalog.checkpoint_card import card_of
from aim_engine.catalog.model_files import checkpoint_in
from tests.catalog.test_served_type import CASES, folder_of

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


# Of these two the engine takes either: neither holds the other, and it asks a set of objects that are ordered by where
# they lie in memory (vllm/utils/torch_utils.py, common_broadcastable_dtype). A plan says which: tests/catalog.
_EITHER = {"F16", "BF16"}


@pytest.mark.parametrize(
    ("config", "stored"), [(config, stored) for config, stored, *_ in CASES if set(stored) != _EITHER]
)
def test_the_engine_serves_what_the_card_says(tmp_path: Path, config: dict[str, Any], stored: dict[str, int]) -> None:
    model = pytest.importorskip("vllm.config.model")
    transformers = pytest.importorskip("transformers")
    folder = folder_of(tmp_path / "m", config, stored)
    read = transformers.AutoConfig.from_pretrained(folder)
    served = model._get_and_verify_dtype(str(folder), read, "auto", is_pooling_model=False)
    words = {"torch.bfloat16": "bf16", "torch.float16": "fp16"}
    assert words[str(served)] == card_of(checkpoint_in(folder, "m")).precision
