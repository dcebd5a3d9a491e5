"""One recipe by its id or its file, without reading any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from aim_engine.catalog.find import find_recipe, recipe_ids
from aim_engine.catalog.load import CatalogFolders, catalog_folders
from aim_engine.errors import CatalogError, NoRecipeError
from tests.building import write_recipe


def test_every_shipped_recipe_is_found_by_its_id() -> None:
    folders = catalog_folders()
    ids = recipe_ids(folders)
    assert len(ids) >= 4
    assert [find_recipe(one, folders).recipe_id for one in ids] == ids


def test_a_broken_neighbour_is_not_read(tmp_path: Path) -> None:
    write_recipe(tmp_path, "good")
    write_recipe(tmp_path, "bad", "a: [")
    folders = CatalogFolders(recipes=(tmp_path,), models=())
    assert find_recipe("good", folders).recipe_id == "good"
    with pytest.raises(CatalogError, match="is not YAML"):
        find_recipe("bad", folders)


@pytest.mark.parametrize("text", ["godo", "x" * 5000, "a\0b", "/no/such.yaml"])
def test_what_is_not_there(tmp_path: Path, text: str) -> None:
    write_recipe(tmp_path, "good")
    with pytest.raises(NoRecipeError) as caught:
        find_recipe(text, CatalogFolders(recipes=(tmp_path,), models=()))
    assert ("did you mean good?" in str(caught.value.hint)) == (text == "godo")


def test_both_endings_of_a_file_are_found(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "good")
    path.rename(path.with_suffix(".yml"))
    folders = CatalogFolders(recipes=(tmp_path,), models=())
    assert recipe_ids(folders) == ["good"]
    assert find_recipe("good", folders).recipe_id == "good"
