"""Each folder of `lint/` is a kind of problem: the recipes in `recipes/` hold one, and `expected.yaml` says what
`aim-engine validate` must find in which file, under which key, in which words (the beginning of the sentence). Nothing
else may be found. A new kind needs no Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.catalog.load import catalog_folders, known_cards, load_everything, read_loose_file
from aim_engine.catalog.parsed import damaged
from aim_engine.catalog.problem_kinds import KINDS, OF_ENGINES
from aim_engine.catalog.yaml_file import Problem
from aim_engine.lint import lint

HERE = Path(__file__).parent / "lint"
CARDS = known_cards(catalog_folders())


def problems_in(folder: Path) -> list[Problem]:
    _, recipes, problems = read_loose_file(folder)
    return [*problems, *lint(recipes, CARDS), *damaged(recipes)]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(OF_ENGINES)))
def test_a_seeded_problem_of_each_kind_is_found(kind: str) -> None:
    """The kinds that are the installed engine's own are tested with it (tests/engine)."""
    case = HERE / kind
    expected: list[dict[str, Any]] = yaml.safe_load((case / "expected.yaml").read_text())
    found = {(Path(one.file).relative_to(case / "recipes").as_posix(), one.key): one
             for one in problems_in(case / "recipes")}  # fmt: skip
    assert found.keys() == {(one["file"], one["key"]) for one in expected}
    for one in expected:
        problem = found[one["file"], one["key"]]
        assert (problem.kind, problem.sentence[: len(one["sentence"])]) == (kind, one["sentence"])


def test_every_folder_is_a_kind() -> None:
    assert {path.name for path in HERE.iterdir()} == set(KINDS) - set(OF_ENGINES)


def test_a_secret_is_not_repeated() -> None:
    text = "\n".join(map(str, problems_in(HERE / "secret" / "recipes")))
    assert not {"hunter2", "a" * 34, "b" * 30} & set(text.replace("'", " ").split())
    assert "hunter2" not in text
    assert "aaaa" not in text


def test_the_shipped_recipes_have_none() -> None:
    recipes, _, problems = load_everything(catalog_folders())
    assert [str(one) for one in (*problems, *lint(recipes, CARDS)) if not one.is_warning] == []
    assert len(recipes) >= 4
