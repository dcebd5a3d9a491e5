"""A folder in, the YAML files below it out, or what keeps it from being read. Opens no file.

Knows nothing of recipes: links may form any web, folders may be closed or be something else.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from aim_engine.errors import CatalogError


def is_folder(path: Path) -> bool:
    """Path.is_dir raises where a folder above may not be looked into; here that is a no."""
    return os.path.isdir(path)  # noqa: PTH112


def yaml_files_below(folder: Path, *, must_exist: bool = True) -> list[Path]:
    """All YAML files below a folder, sorted; an unreadable folder is an error, a missing one only if it must exist.

    Every folder is read once, however many links lead to it: in a web of links there would be no end to the ways.
    """
    try:
        return _files_below(folder, set(), must_exist=must_exist)
    except RecursionError:
        raise CatalogError(
            f"the folder {folder} is nested too deeply", hint="a catalogue is <org>/<model>/<recipe id>.yaml"
        ) from None


def _files_below(folder: Path, read: set[tuple[int, int]], *, must_exist: bool) -> list[Path]:
    found: list[Path] = []
    try:
        about = folder.stat()
        read.add((about.st_dev, about.st_ino))
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_symlink(), entry))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            return []
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and must_exist:
            raise CatalogError(
                f"the folder {folder} is not there or is not a folder",
                hint="correct AIM_RECIPES_DIR or AIM_MODELS_DIR, whichever names it",
            ) from None
        raise CatalogError(
            f"the folder {folder} cannot be read: {error.strerror}", hint="make it readable for this user"
        ) from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.suffix in (".yaml", ".yml"):
            found.append(entry)
        elif _is_new_folder(entry, read):
            found += _files_below(entry, read, must_exist=True)
    return found


def _is_new_folder(entry: Path, read: set[tuple[int, int]]) -> bool:
    try:
        about = entry.stat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and (about.st_dev, about.st_ino) not in read
