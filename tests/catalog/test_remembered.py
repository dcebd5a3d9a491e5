"""remembered.py: files in a cache that is shared, full, read-only, damaged, or written by two at once."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from aim_engine.catalog import kept_files
from aim_engine.catalog.measurement import Measurement, Occasion
from aim_engine.catalog.remembered import keep, recall
from tests.building import ROOT

OCCASION = Occasion(engine="vllm 0.18.1", checkpoint="org/x", revision="", devices="1 x CPU", terms=("eager True",))
FOUND = Measurement(occasion=OCCASION, lines={"processes": 5}, date="2026-10-10T12:00:00Z")


def of_terms(*terms: str, date: str = "2026-10-10T12:00:00Z") -> Measurement:
    return replace(FOUND, occasion=replace(OCCASION, terms=terms), date=date)


def test_what_is_kept_is_recalled_for_its_checkpoint_only(tmp_path: Path) -> None:
    keep(tmp_path, FOUND)
    assert recall(tmp_path, ["org/x"]) == ((FOUND,), ())
    assert recall(tmp_path, ["org/y", "org-x", "/org/x"]) == ((), ())
    assert recall(tmp_path / "absent", ["org/x"]) == ((), ())


def test_the_same_occasion_is_replaced_and_another_stands_beside_it(tmp_path: Path) -> None:
    keep(tmp_path, FOUND)
    newer = replace(FOUND, lines={"processes": 6})
    keep(tmp_path, newer)
    keep(tmp_path, of_terms("eager False"))
    found, notes = recall(tmp_path, ["org/x"])
    assert {one.occasion.terms: one.lines["processes"] for one in found} == {("eager True",): 6, ("eager False",): 5}
    assert notes == ()


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/models/a b", "..", "é" * 300, "a" * 4000])
def test_no_name_leads_out_of_the_folder_or_is_too_long(tmp_path: Path, name: str) -> None:
    found = replace(FOUND, occasion=replace(OCCASION, checkpoint=name))
    path = keep(tmp_path, found)
    assert path.resolve().is_relative_to(tmp_path.resolve() / "measured")
    assert recall(tmp_path, [name]) == ((found,), ())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 60_000, b"x" * 70_000, b'{"format": 1}'])
def test_a_damaged_file_is_a_note_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = keep(tmp_path, FOUND)
    path.write_bytes(content)
    other = path.with_name("other.json")
    other.write_bytes(content)
    found, notes = recall(tmp_path, ["org/x"])
    assert found == ()
    assert [note.split(",")[0] for note in notes] == sorted(map(str, (path, other)))
    keep(tmp_path, FOUND)
    assert recall(tmp_path, ["org/x"]) == ((FOUND,), ())
    assert not other.exists()


def test_a_pipe_or_a_link_in_its_place_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = keep(tmp_path, FOUND)
    os.mkfifo(path.with_name("a.json"))
    path.with_name("b.json").symlink_to("/dev/zero")
    found, notes = recall(tmp_path, ["org/x"])
    assert found == (FOUND,)
    assert len(notes) == 2


def test_what_a_newer_version_has_written_is_not_touched(tmp_path: Path) -> None:
    newer = keep(tmp_path, FOUND).parent.parent / "v2" / "one.json"
    newer.parent.mkdir()
    newer.write_text('{"format": 2}')
    keep(tmp_path, FOUND)
    assert recall(tmp_path, ["org/x"]) == ((FOUND,), ())
    assert newer.exists()


def test_the_oldest_of_very_many_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_files, "_MOST_FILES", 3)
    for day in range(10, 16):
        keep(tmp_path, of_terms(f"day {day}", date=f"2026-10-{day}T00:00:00Z"))
    found, _ = recall(tmp_path, ["org/x"])
    assert {one.occasion.terms for one in found} == {("day 13",), ("day 14",), ("day 15",)}


def test_many_writers_at_once_lose_nothing_and_no_reader_sees_half_a_file(tmp_path: Path) -> None:
    def write(number: int) -> tuple[str, ...]:
        for _ in range(20):
            keep(tmp_path, of_terms(f"writer {number % 4}"))
        return recall(tmp_path, ["org/x"])[1]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(8))) == {()}
    found, notes = recall(tmp_path, ["org/x"])
    assert {one.occasion.terms for one in found} == {(f"writer {number}",) for number in range(4)}
    assert notes == ()
    assert not list((tmp_path / "measured").rglob(".*"))


def test_everybody_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = keep(tmp_path, FOUND)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_of_a_shared_cache_keeps_his_own_and_sees_everybody_s() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are root's alone
        cache = Path(folder)
        cache.chmod(0o1777)
        _share(cache)


def _share(cache: Path) -> None:
    keep(cache, FOUND)
    theirs = of_terms("theirs")
    code = (
        "import hashlib, json, os, sys, tempfile; from pathlib import Path\n"
        "from aim_engine.catalog.remembered import keep, recall\n"
        "from aim_engine.catalog.measurement import read_measurement\n"
        "os.setuid(12345); cache = Path(sys.argv[1]); print(keep(cache, read_measurement(json.loads(sys.argv[2]))))\n"
        "print(len(recall(cache, ['org/x'])[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, cache, json.dumps(theirs.as_json())],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    path, seen = done.stdout.split()
    assert path.startswith(f"{cache}/measured-12345/")
    assert seen == "2"


def test_a_full_disk_raises_and_leaves_the_old_one_whole(tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk is to a writer: an OSError in the middle."""
    keep(tmp_path, FOUND)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            keep(tmp_path, replace(FOUND, lines={"processes": 6}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert recall(tmp_path, ["org/x"]) == ((FOUND,), ())
    assert not list((tmp_path / "measured").rglob(".*"))


def test_a_file_where_the_folder_should_be_raises(tmp_path: Path) -> None:
    (tmp_path / "measured").write_text("")
    with pytest.raises(OSError, match=r"\w"):
        keep(tmp_path, FOUND)
    assert recall(tmp_path, ["org/x"]) == ((), ())
