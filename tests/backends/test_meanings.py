"""The sentences on options and variables: what shipped recipes often say has one, and no option has that never was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from aim_engine.backends.meanings import meaning
from aim_engine.backends.vllm_versions import was_ever_option
from aim_engine.catalog.load import catalog_folders, load_everything


def test_what_several_shipped_recipes_say_has_a_meaning() -> None:
    uses: Counter[tuple[str, Literal["args", "env"], str]] = Counter()
    for recipe in load_everything(catalog_folders())[0]:
        uses.update({(one.backend, "args", name) for one in recipe.variants for name in one.args})
        uses.update({(one.backend, "env", name) for one in recipe.variants for name in one.env})
    silent = {key for key, count in uses.items() if key[0] == "vllm" and count >= 5 and not meaning(*key)}
    assert silent == set(), "say what these do in aim_engine/backends/meanings.yaml"
    assert len(uses) > 10


def test_every_option_with_a_meaning_is_or_was_one() -> None:
    import yaml

    from aim_engine.backends import meanings

    known = yaml.safe_load(Path(meanings.__file__).with_suffix(".yaml").read_text())["vllm"]["args"]
    assert [name for name in known if not was_ever_option(name)] == []


def test_what_nobody_explained_is_empty() -> None:
    assert meaning("vllm", "args", "no-such") == meaning("nobody", "env", "PATH") == ""
