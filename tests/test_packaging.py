"""What is installed is what the checkout has: every data file is named in pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def shipped(package: str, folder: Path) -> set[Path]:
    return {path for pattern in SETUP["package-data"][package] for path in folder.glob(pattern)}


def data_files(folder: Path) -> set[Path]:
    """All but code and what is for authors (README.md)."""
    return {p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc", ".md") and p.name[0] != "."}


def test_every_data_file_of_the_package_is_shipped() -> None:
    assert data_files(ROOT / "aim_engine") == shipped("aim_engine", ROOT / "aim_engine")


def test_every_recipe_and_model_card_is_shipped() -> None:
    for folder in ("recipes", "models"):
        assert data_files(ROOT / folder) == shipped(f"aim_engine.builtin_{folder}", ROOT / folder)


def test_every_package_is_listed() -> None:
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("aim_engine/**/__init__.py")
    }
    assert found <= set(SETUP["packages"])
