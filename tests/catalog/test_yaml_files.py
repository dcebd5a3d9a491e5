"""What is found below a folder whose links form a web, or that is deeper than any catalogue."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aim_engine.catalog.load import read_loose_file
from aim_engine.catalog.yaml_files import yaml_files_below
from aim_engine.errors import CatalogError
from tests.building import write_recipe


def test_a_web_of_links_is_read_once(tmp_path: Path) -> None:
    """Two folders whose links all lead to the other: 12 ** 40 ways through them, until the system stops following."""
    for one, other in (("one", "other"), ("other", "one")):
        (tmp_path / "org" / one).mkdir(parents=True)
        for number in range(12):
            (tmp_path / "org" / one / f"link{number}").symlink_to(tmp_path / "org" / other)
    write_recipe(tmp_path, "r", model_id="org/one")
    files, recipes, problems = read_loose_file(tmp_path)
    assert (files, [recipe.model_id for recipe in recipes], problems) == (1, ["org/one"], [])


def test_a_folder_comes_before_a_link_to_it(tmp_path: Path) -> None:
    write_recipe(tmp_path, "r", model_id="org/one")
    (tmp_path / "also").symlink_to(tmp_path / "org")
    _, (recipe,), problems = read_loose_file(tmp_path)
    assert (Path(recipe.file).relative_to(tmp_path).parts[0], problems) == ("org", [])


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Made and taken away step by step: its path is too deep for those who walk by recursion, pytest's among them."""
    with contextlib.chdir(tmp_path):
        for _ in range(1200):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
    yield tmp_path
    with contextlib.chdir(tmp_path):
        for _ in range(1200):
            os.chdir("d")
        for _ in range(1200):
            os.chdir("..")
            os.rmdir("d")  # noqa: PTH106


def test_a_folder_deeper_than_any_catalogue(deep: Path) -> None:
    with pytest.raises(CatalogError, match="is nested too deeply"):
        yaml_files_below(deep)
