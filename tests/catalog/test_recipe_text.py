"""A recipe's text reads back as the same recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.backends.vllm import derive
from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.json_schema import MODELINES
from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.catalog.recipe import Recipe, read_recipe
from aim_engine.catalog.recipe_text import recipe_text
from aim_engine.hardware.products import product_by_name
from tests.building import CARD, MODEL, examples, recipe, variant


def read_back(text: str, folder: Path) -> Recipe:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    found, problems = read_recipe(path)
    assert problems == []
    assert found is not None
    return replace(found, file="", order=0)


@pytest.mark.parametrize("one", load_everything(catalog_folders())[0], ids=lambda one: one.recipe_id)
def test_every_recipe_of_ours(one: Recipe, tmp_path: Path) -> None:
    assert read_back(recipe_text(one), tmp_path) == replace(one, file="", order=0)


def test_one_that_was_made(tmp_path: Path) -> None:
    made = derive(CARD, MODEL, product_by_name("MI300X"))
    assert made is not None
    text = recipe_text(made, ["two lines:", "# and: 'quotes'"], {2: "fits: well"})
    assert read_back(text, tmp_path) == replace(made, generated=False)
    assert text.startswith(f"{MODELINES['recipe']}\n# two lines:\n# # and: 'quotes'\nrecipe_id: ")
    assert "  # fits: well\n  2_gpu:\n" in text


_VALUES: Any = st.one_of(
    st.booleans(), st.integers(-5, 1 << 40), st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12), st.just("on"), st.just("010"), st.just("1e3"),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.sampled_from(["mode", "yes", "7"]), st.integers(-(2**63), 2**63 - 1)),
)  # fmt: skip


@examples(150)
@given(args=st.dictionaries(st.sampled_from(["dtype", "max-num-seqs", "compilation-config", "x"]), _VALUES),
       env=st.dictionaries(st.sampled_from(["A", "VLLM_X"]), st.sampled_from(["1", "0", "on", "a b", "", "#x"])),
       metric=st.sampled_from([None, "latency", "throughput"]), enabled=st.booleans())  # fmt: skip
def test_any_recipe(
    tmp_path: Path, args: dict[str, Any], env: dict[str, str], metric: str | None, enabled: bool
) -> None:
    one = variant(
        2, args=args, env=env, metric=metric, enabled=enabled, evidence=Evidence(level="reported", source="x.org/y")
    )
    made = recipe(variant(1, evidence=Evidence(source="y: z")), one, evidence=Evidence(source="y: z"))
    assert read_back(recipe_text(made), tmp_path) == made
