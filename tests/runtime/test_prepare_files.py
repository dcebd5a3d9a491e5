"""What is laid out before a start: files the engine reads, prepared caches, a home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aim_engine.errors import CacheError, InputError
from aim_engine.runtime.prepare import check_certificate, link_files, seed_cache, write_file
from aim_engine.runtime.serve import at_home


def test_a_prepared_cache_is_laid_into_the_users_once(tmp_path: Path) -> None:
    prepared, cache = tmp_path / "prepared", tmp_path / "cache"
    (prepared / "vllm/modelinfos").mkdir(parents=True)
    (prepared / "vllm/modelinfos/a.json").write_text("new")
    (prepared / "vllm/modelinfos/b.json").write_text("new")
    (cache / "vllm/modelinfos").mkdir(parents=True)
    (cache / "vllm/modelinfos/a.json").write_text("the user's")
    seed_cache(prepared, cache)
    assert (cache / "vllm/modelinfos/a.json").read_text() == "the user's"
    assert (cache / "vllm/modelinfos/b.json").read_text() == "new"


def test_a_prepared_cache_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    seed_cache(tmp_path / "nowhere", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_file_is_written_whole_and_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    write_file(path, "text")
    first = path.stat()
    write_file(path, "text")
    assert (path.stat().st_ino, path.read_text()) == (first.st_ino, "text")
    write_file(path, "other")
    assert path.read_text() == "other"
    assert [p.name for p in path.parent.iterdir()] == ["b"]


def test_a_file_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file, not a folder")
    with pytest.raises(CacheError, match=f"uid {os.getuid()}") as caught:
        write_file(tmp_path / "a" / "b", "text")
    assert "AIM_CACHE_DIR" in caught.value.hint


def test_a_certificate_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cert\.pem or .* cannot be read"):
        check_certificate(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))


def test_what_is_no_certificate_is_said(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(InputError, match="no certificate with its key"):
        check_certificate(str(tmp_path / "cert.pem"), str(tmp_path / "cert.pem"))


def test_a_home_that_cannot_be_written_is_moved_to_the_cache(tmp_path: Path) -> None:
    found = at_home({"HOME": "/nowhere", "USER": "u"}, str(tmp_path))
    assert found["HOME"] == f"{tmp_path}/home"
    assert Path(found["HOME"]).is_dir()


def test_a_good_home_is_left_alone(tmp_path: Path) -> None:
    given = {"HOME": str(tmp_path), "USER": "u"}
    assert at_home(given, "/nowhere") == given


def test_links_are_made_renewed_and_never_laid_over_what_is_there(tmp_path: Path) -> None:
    source, folder = tmp_path / "image", tmp_path / "cache" / "aiter" / "1"
    source.mkdir()
    for name in ("a.so", "b.so", "c.py"):
        (source / name).write_text(f"the image's {name}")
    link_files(folder, source, "*.so")
    assert sorted(path.name for path in folder.iterdir()) == ["a.so", "b.so"]
    (folder / "a.so").unlink()
    (folder / "a.so").write_text("compiled here")
    (folder / "b.so").unlink()
    (folder / "b.so").symlink_to(tmp_path / "an older image" / "b.so")
    link_files(folder, source, "*.so")
    assert (folder / "a.so").read_text() == "compiled here"
    assert (folder / "b.so").read_text() == "the image's b.so"
    assert (source / "a.so").read_text() == "the image's a.so"


def test_a_folder_that_cannot_hold_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be written"):
        link_files(tmp_path / "file" / "below", tmp_path, "*")
