"""One recipe by its id or its file: the text and the folders in, a `Recipe` out, or what was probably meant.

Files are found by their names, so that nothing else is read.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from aim_engine.catalog.load import CatalogFolders, raise_if
from aim_engine.catalog.parsed import with_records
from aim_engine.catalog.recipe import Recipe, read_recipe
from aim_engine.errors import NoRecipeError


def find_recipe(text: str, folders: CatalogFolders) -> Recipe:
    """The recipe of that id in the first folder that has one, or the one in the file of that name.

    Raises:
        NoRecipeError: there is none; the hint names near ones.
        CatalogError: its file is wrong.
    """
    if _is_file(text):
        return _read(Path(text), 0)
    for order, path in _files(folders):
        if path.stem == text:
            return _read(path, order)
    near = difflib.get_close_matches(text.lower(), recipe_ids(folders), n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    what = "no such file" if "/" in text or text.endswith((".yaml", ".yml")) else "no recipe of that id"
    raise NoRecipeError(f"{text}: there is {what}", hint=f"{hint}aim-engine recipes lists them")


def recipe_ids(folders: CatalogFolders) -> list[str]:
    """The ids of all recipes, from the names of files alone."""
    return sorted({path.stem for _, path in _files(folders)})


def _is_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) and os.path.isfile(text)  # noqa: PTH113 - no error for a name too long


def _files(folders: CatalogFolders) -> Iterator[tuple[int, Path]]:
    for order, root in enumerate(folders.recipes):
        for path in sorted(path for ending in ("yaml", "yml") for path in root.glob(f"*/**/*.{ending}")):
            yield order, path


def _read(path: Path, order: int) -> Recipe:
    recipe, problems = read_recipe(path, order=order)
    raise_if(problems)
    assert recipe is not None
    return with_records([recipe])[0]
