"""fetched.py and aside.py: what of a checkpoint lies in the hub's folder, and a folder that does not answer."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from aim_engine.runtime.aside import Aside
from aim_engine.runtime.fetched import Fetched, fetched, hub_folder, whole_bytes

COMMIT = "a" * 40


@pytest.fixture
def home(tmp_path: Path) -> Path:
    found = tmp_path / "models--org--x"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (found / folder).mkdir(parents=True)
    (found / "refs/main").write_text(COMMIT)
    return found


def test_files_as_they_come(tmp_path: Path, home: Path) -> None:
    assert fetched("org/y", tmp_path, "main") == Fetched(whole=False)
    (home / "snapshots" / COMMIT / "config.json").write_text("{}")
    assert fetched("org/x", tmp_path, "main") == Fetched(whole=False)
    blob = home / "blobs" / "b10b"
    (home / "blobs" / "b10b.incomplete").write_bytes(bytes(70))
    assert fetched("org/x", tmp_path, "main") == Fetched(whole=False, coming=True, bytes=70)
    (home / "blobs" / "b10b.incomplete").rename(blob)
    (home / "snapshots" / COMMIT / "model.safetensors").symlink_to(blob)
    assert fetched("org/x", tmp_path, "main") == Fetched(whole=True)
    assert fetched("org/x", tmp_path, COMMIT) == Fetched(whole=True)


def test_a_first_shard_is_not_the_whole(tmp_path: Path, home: Path) -> None:
    snapshot = home / "snapshots" / COMMIT
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    )
    (snapshot / "1.safetensors").write_bytes(bytes(100))
    (home / "blobs" / "two.incomplete").write_bytes(bytes(11))
    assert fetched("org/x", tmp_path, "main") == Fetched(whole=False, coming=True, bytes=111)


@pytest.mark.parametrize("name", ["/models/x", "s3://bucket/x"])
def test_what_is_no_model_of_the_hub_is_not_downloaded(tmp_path: Path, name: str) -> None:
    assert fetched(name, tmp_path, "main").whole


@pytest.mark.parametrize(
    ("environment", "folder"),
    [({}, "/cache/hub"), ({"HF_HOME": "/h"}, "/h/hub"), ({"HF_HOME": "/h", "HF_HUB_CACHE": "/c"}, "/c")],
)
def test_where_the_hub_s_folder_is(environment: dict[str, str], folder: str) -> None:
    assert hub_folder(environment, "/cache") == Path(folder)


def test_the_files_own_bytes_are_better_than_the_ledger_s() -> None:
    plan = {"memory": {"lines": [{"name": "weights", "bytes": 100, "basis": "assumed"}]}, "tensor_parallel_size": 4}
    assert whole_bytes(plan) == (400, True)
    assert whole_bytes({**plan, "checkpoint_bytes": 333}) == (333, False)
    assert whole_bytes({}) == (None, False)


def test_a_disk_that_does_not_answer_costs_a_moment_once() -> None:
    answers, asked = threading.Event(), []

    def look() -> int:
        asked.append(1)
        answers.wait(20)
        return len(asked)

    aside, began = Aside(look), time.monotonic()
    assert [aside.ask() for _ in range(50)] == [None] * 50
    assert time.monotonic() - began < 15
    assert len(asked) == 1
    answers.set()
    deadline = time.monotonic() + 5
    while aside.newest is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert aside.ask() == 2


def test_a_disk_that_fails_leaves_what_was_known() -> None:
    answers = iter([1])

    def look() -> int:
        if (found := next(answers, None)) is None:
            raise OSError("gone")
        return found

    aside = Aside(look)
    assert [aside.ask(), aside.ask()] == [1, 1]
