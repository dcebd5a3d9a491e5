"""scripts/model-card without building a model: what the shape of a card says, and when it says none."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # or a neighbour is not importable (--import-mode=importlib)

from aim_engine.catalog.config_numbers import text_part
from aim_engine.catalog.model_card import read_model_card
from aim_engine.catalog.model_shape import architecture
from scripts.model_card import config_of, dimensions_of, precision_of, yaml_of
from scripts.model_tensors import UnknownModelError, Weight, draft_weights, stored_bytes
from tests.building import ROOT

CONFIGS = sorted((ROOT / "tests" / "scripts" / "configs").glob("*.json"))
PLAIN: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 512,
    "num_key_value_heads": 2, "intermediate_size": 128, "max_position_embeddings": 2048,
}  # fmt: skip
MATRIX = Weight(name="model.layers.0.mlp.up_proj.weight", elements=200 * 130, matrices=((200, 130),))
NORM = Weight(name="model.norm.weight", elements=64)
HEAD = Weight(name="lm_head.weight", elements=256 * 128, matrices=((256, 128),))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_card_has_the_shape_of_its_config(path: Path) -> None:
    config = json.loads(path.read_text())
    organisation, name = path.stem.split("--", 1)
    card, problems = read_model_card(ROOT / "models" / organisation / f"{name}.yaml")
    assert card is not None, problems
    shape = card.architecture
    assert shape == (architecture(text_part(config)) if dimensions_of(config) or config_of(config) else None) or (
        shape is not None and replace(shape, caches=shape.layer_caches) == architecture(text_part(config))
    )
    assert card.family == config["architectures"][0]
    assert card.precision == precision_of(config)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({}, True),
        ({"sliding_window": 4096}, False),
        ({"model_type": "qwen3", "sliding_window": 4096, "use_sliding_window": False}, True),
        ({"model_type": "gpt_oss", "sliding_window": 128}, False),
        ({"model_type": "gemma2", "sliding_window": 4096, "head_dim": 16}, False),
        ({"model_type": "llama4_text", "attention_chunk_size": 8192}, False),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 32, "qk_rope_head_dim": 8}, True),
        ({"model_type": "deepseek_v32", "kv_lora_rank": 32, "qk_rope_head_dim": 8, "index_head_dim": 128}, False),
        ({"model_type": "one that nobody listed"}, False),
        ({"num_hidden_layers": None}, False),
    ],
)
def test_dimensions_are_left_out_where_they_would_not_say_enough(words: dict[str, Any], told: bool) -> None:
    assert bool(dimensions_of(PLAIN | words)) is told
    assert bool(dimensions_of({"text_config": PLAIN | words})) is told


def test_what_dimensions_leave_out_the_config_s_own_words_say() -> None:
    words = PLAIN | {"model_type": "gemma3_text", "sliding_window": 512, "head_dim": 16, "hidden_act": "gelu",
                     "layer_types": ["sliding_attention"] * 2}  # fmt: skip
    assert config_of(words) == {name: words[name] for name in words if name not in ("layer_types", "hidden_act")}
    assert config_of(PLAIN) == config_of(PLAIN | {"model_type": "one that nobody listed"}) == {}


def test_fp8_has_a_byte_each_and_a_scale_for_each_block_begun() -> None:
    scales = 2 * 2  # 200 x 130 in blocks of 128 x 128
    rest = 2 * 64 + 2 * 256 * 128  # the norm and the head in two bytes
    weights = [MATRIX, NORM, HEAD]
    assert stored_bytes(weights, "fp8", {"model_type": "qwen3"}) == 200 * 130 + 2 * scales + rest
    said = {"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 130]}}
    assert stored_bytes(weights, "fp8", said) == 200 * 130 + 4 * (4 * 1) + rest


def test_a_module_that_is_not_converted_stays_in_two_bytes() -> None:
    for skipped in ("model.layers.0", "up_proj", "model.layers.*.mlp.up_proj"):
        said = {"quantization_config": {"quant_method": "fp8", "modules_to_not_convert": [skipped]}}
        assert stored_bytes([MATRIX], "fp8", said) == 2 * 200 * 130
    said = {"quantization_config": {"quant_method": "fp8", "modules_to_not_convert": ["proj", "model.layers.00"]}}
    assert stored_bytes([MATRIX], "fp8", said) == 200 * 130 + 4 * 4


def test_mxfp4_takes_only_the_experts() -> None:
    experts = Weight(name="model.layers.0.mlp.experts.down_proj", elements=4 * 64 * 32, matrices=((64, 32),) * 4)
    bias = Weight(name="model.layers.0.mlp.experts.down_proj_bias", elements=4 * 64)
    said = {"quantization_config": {"quant_method": "mxfp4"}}
    assert stored_bytes([experts, bias, MATRIX], "fp4", said) == 4096 + 256 + 2 * 4 * 64 + 2 * 200 * 130


def test_the_layers_for_drafting_are_counted_apart() -> None:
    weights = [MATRIX, Weight(name="model.layers.1.mlp.up_proj.weight", elements=100), NORM]
    config = PLAIN | {"model_type": "deepseek_v3", "num_nextn_predict_layers": 1}
    number = sum(weight.elements for weight in draft_weights(config, weights))
    assert number == 100 + 2 * 64 * 64 + 3 * 64 + 2 * 512 * 64
    assert draft_weights(PLAIN | {"num_nextn_predict_layers": 1}, weights) == []


def test_a_format_without_a_rule_is_an_error() -> None:
    config = {"quantization_config": {"quant_method": "awq"}}
    with pytest.raises(UnknownModelError, match="awq"):
        precision_of(config)
    with pytest.raises(UnknownModelError, match="awq"):
        stored_bytes([MATRIX], "fp8", config)


def test_what_is_written_is_a_card(tmp_path: Path) -> None:
    words = {"model_id": "a/b", "name": "B", "description": "A model: with a colon.", "license": "", "source": 'a "b"'}
    card = {"size": "1.0B", "architecture": "X", "precision": "bf16", "dimensions": dimensions_of(PLAIN),
            "weights_bytes": {"bf16": 10, "fp8": 6}}  # fmt: skip
    (tmp_path / "b.yaml").write_text(yaml_of(words, card, ["how it came about"]))
    read, problems = read_model_card(tmp_path / "b.yaml")
    assert problems == []
    assert read is not None
    assert (read.description, read.license, read.source) == ("A model: with a colon.", "", 'a "b"')
    assert (read.architecture and read.architecture.head_dim, dict(read.weights_bytes)) == (16, {"bf16": 10, "fp8": 6})


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{", "--model", "a/b"], 10, "model-card: "),
        (["{}", "--model", "b"], 2, "scripts/model-card: error: --model b is not of the form ORG/NAME"),
        (["{}", "--model", "a/b", "--precision", "fp3"], 2, "scripts/model-card: error: argument --precision"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(arguments[0])
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "model_card.py", tmp_path / "config.json"]
    done = subprocess.run([*command, *arguments[1:]], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.splitlines()[-1].startswith(words)
