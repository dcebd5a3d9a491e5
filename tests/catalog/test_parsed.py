"""What an engine's parser accepted, kept beside the recipes: for whom it counts, what loses it, what is no record."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.evidence import Acceptance
from aim_engine.catalog.find import find_recipe
from aim_engine.catalog.load import CatalogFolders, load_catalog, load_everything, read_loose_file
from aim_engine.catalog.parsed import RECORD, damaged, digest, record
from aim_engine.catalog.recipe import Recipe
from aim_engine.errors import CacheError
from tests.building import MODEL, write_recipe

ENGINE, DATE = "vllm 0.32.0", "2026-11-22"
BY_IT = (Acceptance(engine=ENGINE, date=DATE),)
BOTH = """
recipe_id: both
model_id: Qwen/Qwen3-32B
precision: bf16
hardware: {gpu_type: MI300X}
vllm_serve: {1_gpu: {}}
sglang_serve: {1_gpu: {}}
"""


def folders(root: Path) -> CatalogFolders:
    return CatalogFolders(recipes=(root,), models=())


def accept(*files: Path, engine: str = ENGINE, date: str = DATE) -> None:
    record(engine, {file: digest(file) for file in files}, date)


def accepted(root: Path) -> dict[str, tuple[Acceptance, ...]]:
    return {one.recipe_id: one.variants[0].evidence.accepted for one in load_catalog(MODEL, folders(root)).recipes}


def entries(root: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((root / MODEL / RECORD).read_text())["accepted"]
    return found


def test_what_was_accepted_is_in_the_evidence_however_the_recipe_is_read(tmp_path: Path) -> None:
    file = write_recipe(tmp_path, "one")
    write_recipe(tmp_path, "two")
    accept(file)
    assert accepted(tmp_path) == {"one": BY_IT, "two": ()}
    ways: list[Recipe] = [
        find_recipe("one", folders(tmp_path)),
        find_recipe(str(file), folders(tmp_path)),
        load_everything(folders(tmp_path))[0][0],
        *read_loose_file(file)[1],
        read_loose_file(tmp_path)[1][0],
    ]
    assert [one.evidence.accepted for one in ways] == [BY_IT] * 5
    assert {one.evidence.level for one in ways} == {"derived"}  # what the file says is not touched


def test_the_record_is_for_everybody_and_no_loose_file(tmp_path: Path) -> None:
    file = write_recipe(tmp_path, "one")
    accept(file)
    assert stat.S_IMODE((file.parent / RECORD).stat().st_mode) == 0o644
    assert sorted(path.name for path in file.parent.iterdir()) == ["one.yaml", RECORD]
    assert load_everything(folders(tmp_path))[2] == []
    assert damaged(read_loose_file(tmp_path)[1]) == []


def test_a_changed_file_loses_it(tmp_path: Path) -> None:
    file = write_recipe(tmp_path, "one")
    accept(file)
    text = file.read_text()
    file.write_text(text + "# a comment\n")
    assert accepted(tmp_path) == {"one": ()}
    file.write_text(text)
    assert accepted(tmp_path) == {"one": BY_IT}


def test_an_engine_speaks_of_its_own_variants_only(tmp_path: Path) -> None:
    file = write_recipe(tmp_path, "both", BOTH)
    accept(file)
    (recipe,) = load_catalog(MODEL, folders(tmp_path)).recipes
    assert {one.backend: one.evidence.accepted for one in recipe.variants} == {"sglang": (), "vllm": BY_IT}


def test_every_engine_has_its_say_and_takes_back_only_its_own(tmp_path: Path) -> None:
    one, two = write_recipe(tmp_path, "one"), write_recipe(tmp_path, "two")
    accept(one, two)
    accept(one, two, engine="vllm 0.33.0", date="2026-12-01")
    record(ENGINE, {one: None}, "2026-12-02")
    said = {(entry["file"], entry["engine"]) for entry in entries(tmp_path)}
    assert said == {("two.yaml", ENGINE), ("one.yaml", "vllm 0.33.0"), ("two.yaml", "vllm 0.33.0")}
    two.unlink()
    accept(one, engine="vllm 0.34.0")
    assert {entry["file"] for entry in entries(tmp_path)} == {"one.yaml"}
    for engine in ("vllm 0.33.0", "vllm 0.34.0"):
        record(engine, {one: None}, DATE)
    assert not (tmp_path / MODEL / RECORD).exists()


def test_what_is_recorded_already_is_not_written_again(tmp_path: Path) -> None:
    file = write_recipe(tmp_path, "one")
    accept(file)
    before = (file.parent / RECORD).stat()
    accept(file, date="2027-01-01")
    after = (file.parent / RECORD).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert accepted(tmp_path) == {"one": BY_IT}


def entry(**changes: Any) -> str:
    plain = {"file": "one.yaml", "sha256": "0" * 64, "engine": ENGINE, "date": DATE}
    return json.dumps({"format": 1, "accepted": [{**plain, **changes}]})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "it is not of format 1"),
        ('{"format": 2, "accepted": []}', "it is not of format 1"),
        ('{"format": 1, "accepted": {}}', "it is not of format 1"),
        ('{"format": 1, "accepted": ["one.yaml"]}', "an entry is no object"),
        (entry(sha256="0"), "an entry's sha256 is none"),
        (entry(engine="vllm"), "an entry's engine is none"),
        (entry(engine="vllm 0.32\x1b[2J"), "an entry's engine is none"),
        (entry(file="../one.yaml"), "an entry's file is none"),
        (entry(date=5), "an entry's date is none"),
        (" " * 1_000_001, "it is larger than 1,000,000 bytes"),
    ],
)
def test_what_is_no_record_counts_for_nothing_is_told_and_replaced(tmp_path: Path, text: str, why: str) -> None:
    file = write_recipe(tmp_path, "one")
    (file.parent / RECORD).write_text(text)
    assert accepted(tmp_path) == {"one": ()}
    (warning,) = damaged(read_loose_file(tmp_path)[1])
    assert warning.is_warning
    assert (warning.file, warning.kind) == (str(file.parent / RECORD), "record")
    assert why in warning.sentence
    accept(file)
    assert accepted(tmp_path) == {"one": BY_IT}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    file = write_recipe(tmp_path, "one")
    os.mkfifo(file.parent / RECORD)
    assert accepted(tmp_path) == {"one": ()}
    assert "not a regular file" in damaged(read_loose_file(tmp_path)[1])[0].sentence


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """A folder in the record's place stands for what is closed to all but root, as whom tests may run."""
    file = write_recipe(tmp_path, "one")
    (file.parent / RECORD).mkdir()
    with pytest.raises(CacheError, match=f"^{file.parent / RECORD} cannot be written: Is a directory$") as caught:
        accept(file)
    assert str(file.parent) in caught.value.hint
    assert caught.value.code == 42
    assert sorted(path.name for path in file.parent.iterdir()) == ["one.yaml", RECORD]


def test_only_the_asked_models_record_is_opened(tmp_path: Path) -> None:
    write_recipe(tmp_path, "one")
    other = write_recipe(tmp_path, "other", model_id="org/other")
    opened: list[str] = []
    listening = [True]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open" and str(arguments[0]).endswith(RECORD):
            opened.append(str(arguments[0]))

    import sys

    accept(other)
    sys.addaudithook(hear)
    load_catalog(MODEL, folders(tmp_path))
    listening.clear()
    assert opened == [str(tmp_path / MODEL / RECORD)]
