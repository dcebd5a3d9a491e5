"""One model card: its numbers, what they rest on, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.layer_cache import TokenCache
from aim_engine.catalog.load import catalog_folders
from aim_engine.catalog.model_card import ModelCard, read_model_card
from tests.building import MODEL, QWEN

DIMENSIONS = (
    "{layers: 2, hidden_size: 64, attention_heads: 4, kv_heads: 2, head_dim: 16, vocab_size: 512, "
    "intermediate_size: 128, max_context: 2048}"
)


def read(tmp_path: Path, text: str) -> tuple[ModelCard | None, list[str]]:
    path = tmp_path / "card.yaml"
    path.write_text(text)
    card, problems = read_model_card(path)
    return card, [str(problem).removeprefix(str(path)) for problem in problems]


def test_a_card_of_words_alone_is_legal(tmp_path: Path) -> None:
    card, problems = read(tmp_path, "model_id: a/b\nlicense: mit\n")
    assert problems == []
    assert card is not None
    assert (card.name, card.license, card.architecture, card.weights_in("bf16")) == ("a/b", "mit", None, None)


def test_a_card_may_name_a_format_that_the_precision_does_not_tell(tmp_path: Path) -> None:
    card, problems = read(tmp_path, "model_id: a/b\nprecision: fp4\nquantization: nvfp4\n")
    assert problems == []
    assert card is not None
    assert card.quantization == "nvfp4"


def test_a_card_may_name_checkpoints_in_other_precisions(tmp_path: Path) -> None:
    card, problems = read(tmp_path, "model_id: a/b\nprecision: bf16\ncheckpoints: {int4: a/b-AWQ, fp8: c/b-FP8}\n")
    assert problems == []
    assert card is not None
    assert card.precisions == ("bf16", "fp8", "int4")
    assert [card.checkpoint_in(one) for one in ("fp8", "bf16", None)] == ["c/b-FP8", None, None]
    _, problems = read(tmp_path, "model_id: a/b\ncheckpoints: {fp8: /folder}\n")
    assert problems == [" (model a/b): checkpoints.fp8: must be a Hugging Face id, org/name, found '/folder'"]


def test_a_card_with_numbers(tmp_path: Path) -> None:
    text = f"model_id: a/b\nprecision: fp8\nweights_bytes: {{fp8: 100}}\ndimensions: {DIMENSIONS}\n"
    card, problems = read(tmp_path, text)
    assert problems == []
    assert card is not None
    assert card.architecture == Architecture(
        layers=2, hidden_size=64, attention_heads=4, kv_heads=2, head_dim=16, vocab_size=512, intermediate_size=128,
        max_context=2048)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("name: x", [": model_id: is missing"]),
        ("model_id: a/b\nlicence: x", [" (model a/b): licence: is an unknown key; did you mean license?"]),
        ("model_id: a/b\ndimensions: {layers: 0}", None),
        (f"model_id: a/b\ndimensions: {DIMENSIONS.replace('layers: 2', 'layers: 1000000000')}",
         [" (model a/b): dimensions.layers: input should be less than or equal to 10000, found 1000000000"]),
        ("model_id: a/b\nweights_bytes: {bf61: 1}", None),
        ("model_id: a/b\nweights_bytes: {bf16: 1.5}",
         [" (model a/b): weights_bytes.bf16: input should be a valid integer, found 1.5"]),
        ("model_id: a/b\nweights_basis: guessed", None),
        ("model_id: a/b\nquantization: nvfp5", None),
        ("[]", [": must hold a map of keys, not a list"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, text: str, problems: list[str] | None) -> None:
    card, found = read(tmp_path, text)
    assert card is None
    assert found == problems if problems else found


def test_the_shipped_card_of_qwen3_32b_is_the_sum_of_its_shapes() -> None:
    card, _ = read_model_card(catalog_folders().models[0] / f"{MODEL}.yaml")
    assert card is not None
    assert card.architecture == QWEN
    attention = 5120 * 128 * (64 + 8 + 8) + 64 * 128 * 5120 + 2 * 128
    layer = attention + 3 * 5120 * 25600 + 2 * 5120
    total = 64 * layer + 2 * 151936 * 5120 + 5120
    assert card.weights_bytes["bf16"] == 2 * total == 65_524_246_528


def test_a_card_may_say_what_a_config_says(tmp_path: Path) -> None:
    sizes = "num_hidden_layers: 4, hidden_size: 64, num_attention_heads: 4, vocab_size: 512, n_positions: 99"
    card, problems = read(tmp_path, f"model_id: a/b\nconfig: {{model_type: gpt_oss, sliding_window: 8, {sizes}}}\n")
    assert problems == []
    assert card is not None
    assert card.architecture is not None
    assert [cache.window for (cache,) in card.architecture.layer_caches if isinstance(cache, TokenCache)] == [
        8,
        0,
        8,
        0,
    ]
    nothing, problems = read(tmp_path, "model_id: a/b\nconfig: {model_type: gpt_oss}\n")
    assert nothing is None
    assert len(problems) == 1
    assert "config: must hold the sizes" in problems[0]
