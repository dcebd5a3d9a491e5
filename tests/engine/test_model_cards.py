"""The bytes in the cards, counted anew: the true classes of the models are built without memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # or a neighbour is not importable (--import-mode=importlib)

from aim_engine.catalog.model_card import read_model_card
from scripts.model_card import precision_of
from scripts.model_tensors import UnknownModelError, draft_weights, stored_bytes, weights_of
from tests.building import ROOT

CONFIGS = sorted((ROOT / "tests" / "scripts" / "configs").glob("*.json"))

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _needs_transformers() -> None:
    pytest.importorskip("transformers")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_bytes_of_a_card_are_those_of_the_model(path: Path) -> None:
    config = json.loads(path.read_text())
    organisation, name = path.stem.split("--", 1)
    card, problems = read_model_card(ROOT / "models" / organisation / f"{name}.yaml")
    assert card is not None, problems
    weights = weights_of(config)
    assert {name: stored_bytes(weights, name, config) for name in card.weights_bytes} == card.weights_bytes
    assert precision_of(config) in card.weights_bytes


# Sums that were published with the checkpoints: on the models' pages, in OpenAI's model card of gpt-oss (arXiv
# 2508.10925, table 1), in DeepSeek's README_WEIGHTS.md; the last two with the layer for drafting.
@pytest.mark.parametrize(
    ("name", "billions", "with_drafts"),
    [
        ("openai--gpt-oss-20b", 20.91, False),
        ("openai--gpt-oss-120b", 116.83, False),
        ("deepseek-ai--DeepSeek-R1", 671.03, False),
        ("Qwen--Qwen3-30B-A3B", 30.53, False),
        ("Qwen--Qwen3-235B-A22B", 235.09, False),
        ("Qwen--Qwen2.5-72B-Instruct", 72.71, False),
        ("meta-llama--Llama-3.1-405B-Instruct", 405.85, False),
        ("mistralai--Mixtral-8x7B-Instruct-v0.1", 46.70, False),
        ("mistralai--Mistral-Small-3.1-24B-Instruct-2503", 24.01, False),
        ("google--gemma-3-27b-it", 27.43, False),
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct", 108.64, False),
        ("zai-org--GLM-4.5", 358.34, True),
        ("zai-org--GLM-4.5-Air", 110.47, True),
    ],
)
def test_the_number_of_elements_is_the_published_one(name: str, billions: float, with_drafts: bool) -> None:
    config = json.loads((ROOT / "tests" / "scripts" / "configs" / f"{name}.json").read_text())
    weights = weights_of(config)
    counted = [*weights, *(draft_weights(config, weights) if with_drafts else ())]
    assert sum(weight.elements for weight in counted) / 1e9 == pytest.approx(billions, abs=0.005)


def test_a_tied_table_counts_once() -> None:
    config = json.loads((ROOT / "tests" / "scripts" / "configs" / "meta-llama--Llama-3.2-1B-Instruct.json").read_text())
    names = {weight.name for weight in weights_of(config)}
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    assert "lm_head.weight" in {weight.name for weight in weights_of(config | {"tie_word_embeddings": False})}


def test_a_model_that_is_not_known_is_an_error() -> None:
    with pytest.raises(UnknownModelError, match="NoSuchModel"):
        weights_of({"architectures": ["NoSuchModel"], "model_type": "llama"})


def test_the_program_writes_the_card_that_is_shipped(tmp_path: Path) -> None:
    config = ROOT / "tests" / "scripts" / "configs" / "Qwen--Qwen3-30B-A3B.json"
    shipped = ROOT / "models" / "Qwen" / "Qwen3-30B-A3B.yaml"
    card, _ = read_model_card(shipped)
    assert card is not None
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "model_card.py", config]
    command += ["--model", card.model_id]
    command += [
        "--checkpoint",
        "fp8=Qwen/Qwen3-30B-A3B-FP8",
        "--source",
        card.source,
        "--description",
        card.description,
    ]
    done = subprocess.run(
        [*command, "--license", card.license], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, shipped.read_text()), done.stderr
