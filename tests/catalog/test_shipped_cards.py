"""Every card in models/: it loads, is the only one of its model, names its source, and has its config's own shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.catalog.model_card import ModelCard, read_model_card
from tests.building import ROOT

CONFIGS = ROOT / "tests" / "scripts" / "configs"  # copies of config.json, without what says nothing about a shape
FILES = sorted((ROOT / "models").glob("*/*.yaml"))


def card_in(path: Path) -> ModelCard:
    card, problems = read_model_card(path)
    assert card is not None, problems
    return card


def config_of(card: ModelCard) -> dict[str, object] | None:
    path = CONFIGS / f"{card.model_id.replace('/', '--')}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def test_the_whole_folder_loads_and_names_no_model_twice() -> None:
    _, cards, problems = load_everything(catalog_folders())
    assert [str(problem) for problem in problems] == []
    names = [card.model_id.lower() for card in cards]
    assert len(names) == len(set(names)) == len(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_card_says_where_its_numbers_were_read_and_what_the_model_is(path: Path) -> None:
    card = card_in(path)
    assert "config.json" in card.source or "onfig class" in card.source
    assert card.description.endswith(".")
    assert card.family
    assert card.url == f"https://huggingface.co/{card.model_id}"
    assert card.precision in card.weights_bytes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_bytes_are_explained_and_of_the_size_that_the_card_tells(path: Path) -> None:
    card, text = card_in(path), path.read_text()
    billions = float(next(line for line in text.splitlines() if line.startswith("size: "))[6:].removesuffix("B"))
    sixteen = card.weights_bytes.get("bf16")
    if sixteen is not None:
        assert sixteen / 2e9 == pytest.approx(billions, rel=0.01)
    for precision in card.weights_bytes.keys() & {"fp8"}:
        assert billions * 1e9 < card.weights_bytes[precision] < 1.5 * billions * 1e9, "a byte each, scales, some in two"
    assert "\n# " in text


def test_every_copy_of_a_config_belongs_to_a_card() -> None:
    known = {f"{path.parent.name}--{path.stem}" for path in FILES}
    assert {path.stem for path in CONFIGS.glob("*.json")} <= known
