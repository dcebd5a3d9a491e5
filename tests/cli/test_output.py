"""What `-o` names: written whole or left as it was."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from aim_engine.cli.output import write_file, write_folder
from aim_engine.errors import CacheError, InputError


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on files' sizes ends a write as a full disk does."""
    file = tmp_path / "k.yaml"
    file.write_text("precious")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CacheError, match="cannot be written"):
            write_file(file, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_one_and_a_mode_is_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "k.yaml"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_file(link, "new")
    assert (link.is_symlink(), real.read_text(), real.stat().st_mode & 0o777) == (True, "new", 0o640)


def test_a_new_file_has_the_umask_s_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "k.yaml", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "k.yaml").stat().st_mode & 0o777 == 0o640


def test_a_folder_s_first_file_says_whose_it_is(tmp_path: Path) -> None:
    def put(text: str) -> None:
        write_folder(tmp_path, {"a/first": f"# ours {text}", "b/c": text}, first="a/first", mark="# ours")

    put("1")
    put("2")
    assert (tmp_path / "b/c").read_text() == "2"
    (tmp_path / "a/first").unlink()
    with pytest.raises(InputError, match="would be lost"):
        put("3")
    assert (tmp_path / "b/c").read_text() == "2"


@pytest.mark.parametrize("name", ["x" * 300, "file/below"])
def test_what_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError):
        write_file(tmp_path / name, "text")
    with pytest.raises(CacheError):
        write_folder(tmp_path / name, {"a": ""}, first="a", mark="a")
