"""The entry point's list of subcommands is the command's own. Needs no Docker."""

from __future__ import annotations

import re
from pathlib import Path

from aim_engine.cli import main

ENTRYPOINT = (Path(__file__).parents[2] / "entrypoint").read_text()


def test_every_subcommand_is_known_to_the_entry_point() -> None:
    listed = re.search(r"^    (completion .*)\)$", ENTRYPOINT, re.MULTILINE)
    assert listed
    assert set(listed[1].split(" | ")) == {*main._COMMANDS, *main._ALIASES}
