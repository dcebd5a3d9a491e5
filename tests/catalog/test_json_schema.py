"""The JSON Schemas: every shipped file passes, what the reader refuses by its keys they refuse too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aim_engine.catalog.json_schema import FILES, MODELINES, json_schema
from aim_engine.hardware.products import product_names
from tests.building import ROOT

FOLDERS = {"recipe": ROOT / "recipes", "model": ROOT / "models"}
SHIPPED = [(kind, path) for kind, folder in FOLDERS.items() for path in sorted(folder.glob("*/**/*.yaml"))]


def as_json(text: str) -> Any:
    """As an editor sees YAML: dates are texts, merges are done."""
    return json.loads(json.dumps(yaml.safe_load(text), default=str))


def complaints(kind: str, value: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(json_schema(kind, product_names()))
    return [error.message for error in validator.iter_errors(value)]


@pytest.mark.parametrize("kind", FILES)
def test_it_is_a_schema_and_says_what_every_key_means(kind: str) -> None:
    schema = json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert [name for name, found in properties(schema) if not found.get("description", "$ref" in found)] == [], (
        "say what these keys mean in aim_engine/catalog/json_schema.py"
    )


def properties(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
        for value in schema.values():
            yield from properties(value)


@pytest.mark.parametrize(("kind", "path"), SHIPPED, ids=lambda one: one.stem if isinstance(one, Path) else "")
def test_a_shipped_file_passes_and_names_its_schema(kind: str, path: Path) -> None:
    text = path.read_text()
    assert complaints(kind, as_json(text)) == []
    named = text.splitlines()[0].partition("$schema=")[2]
    assert (path.parent / named).resolve() == FOLDERS[kind] / FILES[kind], "run scripts/catalogue"


GOOD: dict[str, Any] = {
    "recipe_id": "r", "model_id": "org/m", "precision": "bf16", "hardware": {"gpu_type": "MI300X"},
    "vllm_serve": {"4_gpu": {"args": {"max-model-len": 4096}, "env": {"A": "1"}}},
}  # fmt: skip
FLAT = {**{key: GOOD[key] for key in ("recipe_id", "model_id", "precision")},
        "hardware": {"gpu_type": "MI300X", "gpu_count": 4}, "config": {"max_model_len": 1}}  # fmt: skip


@pytest.mark.parametrize(
    "value", [GOOD, FLAT, {**GOOD, "sglang_serve": {"8_gpu": {}}}, {**GOOD, "other_serve": {"1_gpu": {}}}]
)
def test_both_forms_pass_and_every_backend_does(value: Any) -> None:
    assert complaints("recipe", value) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"presicion": "x"}, "'presicion' does not match"),
        ({"precision": "bf61"}, "is not one of"),
        ({"recipe_id": "R!"}, "does not match"),
        ({"hardware": {"gpu_type": "MI326X"}}, "'MI326X' is not one of ['MI210'"),
        ({"hardware": {}}, "'gpu_type' is a required property"),
        ({"evidence": {"level": "proved"}}, "is not one of"),
        ({"vllm_serve": {}}, "should be non-empty"),
        ({"vllm_serve": {"four_gpu": {}}}, "does not match"),
        ({"vllm_serve": {"1_gpu": {"arg": {}}}}, "'arg' was unexpected"),
        ({"vllm_serve": {"1_gpu": {"env": {"A": 1}}}}, "is not of type 'string'"),
        ({"vllm_serve": {"1_gpu": {"env": {"HF_TOKEN": "x"}}}}, "should not be valid"),
        ({"vllm_serve": {"1_gpu": {"args": {"--x": 1}}}}, "does not match"),
    ],
)
def test_what_the_reader_refuses_it_refuses(changes: dict[str, Any], words: str) -> None:
    found = complaints("recipe", {**GOOD, **changes})
    assert any(words in one for one in found), found


def test_a_recipe_needs_a_backend() -> None:
    assert complaints("recipe", {key: value for key, value in GOOD.items() if key != "vllm_serve"})


def test_a_card_is_refused_too() -> None:
    assert complaints("model", {"model_id": "o/m", "weights_bytes": {"bf16": 0}})
    assert complaints("model", {"name": "x"})


def test_a_modeline_is_a_comment() -> None:
    assert {yaml.safe_load(line) for line in MODELINES.values()} == {None}
