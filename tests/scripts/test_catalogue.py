"""What scripts/catalogue makes is fresh; what it would make of one recipe."""

from __future__ import annotations

import shutil
from pathlib import Path

from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.model_card import ModelCard
from scripts.catalogue import catalogue_page, stale, with_modeline
from tests.building import ROOT, recipe, variant


def test_all_that_is_made_from_the_catalogue_is_fresh() -> None:
    found = [str(path.relative_to(ROOT)) for path in stale()]
    assert found == [], f"run scripts/catalogue: {len(found)} files are older than what they are made from"


def test_a_stale_file_is_found(tmp_path: Path) -> None:
    for name in ("recipes", "models"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/catalogue.md", tmp_path / "docs")
    assert stale(tmp_path) == {}
    (tmp_path / "recipes/recipe.schema.json").write_text("{}")
    next((tmp_path / "recipes/Qwen/Qwen3-32B").glob("*.yaml")).unlink()
    changed = {path.name for path in stale(tmp_path)}
    assert changed == {"recipe.schema.json", "catalogue.md"}


def test_the_modeline_is_the_first_line_and_there_is_one() -> None:
    once = with_modeline("# why\na: 1\n", "# yaml-language-server: $schema=x")
    assert once == "# yaml-language-server: $schema=x\n# why\na: 1\n"
    assert with_modeline(once, "# yaml-language-server: $schema=y") == once.replace("=x", "=y")


def test_the_page() -> None:
    measured = variant(8, metric="latency", evidence=Evidence(level="measured"))
    page = catalogue_page(
        [recipe(variant(1), variant(2), variant(4, enabled=False), measured)],
        [ModelCard(model_id="org/known"), ModelCard(model_id="Qwen/Qwen3-32B")],
    )
    assert "| model | precision | MI300X |" in page
    assert "| Qwen/Qwen3-32B | bf16 | measured 8 (latency); derived 1, 2 |" in page
    assert page.endswith("\n- org/known\n")
    assert "1 recipes with\n4 variants for 1 models, 2 model cards" in page


def test_a_model_without_a_card_is_marked() -> None:
    assert "| Qwen/Qwen3-32B (memory not checked) | bf16 | derived 1 |" in catalogue_page([recipe(variant(1))], [])
