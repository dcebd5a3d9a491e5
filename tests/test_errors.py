"""The error tree: every class has one exit code of its own, and the drawings of the tree are true."""

from __future__ import annotations

import re

import pytest

import aim_engine.errors as errors
from aim_engine.cli.main import _EPILOG
from aim_engine.errors import AimError, CatalogError, error_classes
from tests.building import ROOT

# The design's table of exit codes, and whether a restart is worth one try.
TABLE = {
    "Usage": (2, False),
    "Input": (10, False),
    "NoAccelerator": (20, False),
    "DoesNotFit": (21, False),
    "NoRecipe": (30, False),
    "Catalog": (31, False),
    "ModelAccess": (40, False),
    "HubUnreachable": (41, True),
    "Cache": (42, False),
    "EngineRefused": (50, False),
    "EngineCrashed": (51, True),
    "EngineStartTimeout": (52, True),
    "EngineHung": (53, True),
    "Docker": (60, False),
    "Endpoint": (61, False),
    "Internal": (70, False),
}


def test_the_classes_are_those_of_the_table() -> None:
    assert {cls("x").error_class: (cls.code, cls.retryable) for cls in error_classes()} == TABLE


def test_each_code_belongs_to_one_class() -> None:
    codes = [cls.code for cls in error_classes()]
    assert len(codes) == len(set(codes))
    assert all("code" in vars(cls) for cls in error_classes())


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)\s+(\d+)\s+(.*)", errors.__doc__ or "")
    assert [(name, int(code)) for name, code, _ in drawn] == [(c.__name__, c.code) for c in error_classes()]
    assert {name for name, _, text in drawn if "worth one retry" in text} == {
        cls.__name__ for cls in error_classes() if cls.retryable
    }


def test_no_class_has_children_of_its_own() -> None:
    assert [cls for cls in error_classes() if cls.__subclasses__()] == []


@pytest.mark.parametrize("cls", error_classes(), ids=lambda cls: cls.__name__)
def test_every_code_is_in_the_help_and_in_the_readme(cls: type[AimError]) -> None:
    assert re.search(rf"\b{cls.code}\b", _EPILOG)
    assert re.search(rf"\b{cls.code}\b", (ROOT / "README.md").read_text())


def test_the_last_words_are_plain_data() -> None:
    error = CatalogError("two are wrong", hint="mend them", details=("a", "b"))
    assert error.as_json() == {
        "class": "Catalog",
        "code": 31,
        "message": "two are wrong",
        "hint": "mend them",
        "retryable": False,
        "details": ["a", "b"],
    }
    assert "details" not in CatalogError("one").as_json()
    assert str(error) == "two are wrong"
