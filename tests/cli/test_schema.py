"""`aim-engine schema`: it prints what is stored beside the recipes and the model cards."""

from __future__ import annotations

import pytest

from aim_engine.catalog.json_schema import FILES
from tests.building import ROOT
from tests.cli.conftest import Run


@pytest.mark.parametrize(("kind", "folder"), [("recipe", "recipes"), ("model", "models")])
def test_the_command_prints_what_is_stored(cli: Run, kind: str, folder: str) -> None:
    assert cli("schema", kind).stdout == (ROOT / folder / FILES[kind]).read_text()


def test_another_kind_is_a_usage_error(cli: Run) -> None:
    assert cli("schema", "other").code == 2
