"""layout.py: what is laid into the cache, for whoever shares it, and where it goes when it cannot be laid there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.errors import CacheError
from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.layout import lay_out, link_files, seed_cache, write_file
from aim_engine.runtime.serve import at_home

from .server import Server, fake_plan
from .test_boot import AS_NOBODY, FOR_EVERYBODY

NEEDS_ROOT = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None or not FOR_EVERYBODY,
    reason="needs root, setpriv and a Python that others may run",
)
TEXT = "Metadata-Version: 2.1\nName: vllm\nVersion: 1+cpu\n"


@pytest.fixture
def stingy() -> Iterator[None]:
    """The umask of somebody who shares nothing."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def plan_with_a_cache(folder: Path) -> dict[str, Any]:
    """A plan whose engine keeps things in the cache, as vLLM's does."""
    plan = fake_plan(folder)
    cache = folder / "cache"
    kernels = folder / "image"
    kernels.mkdir(exist_ok=True)
    (kernels / "a.so").write_text("a kernel")
    prepared = folder / "prepared"
    (prepared / "vllm/modelinfos").mkdir(parents=True, exist_ok=True)
    (prepared / "vllm/modelinfos/x.json").write_text("{}")
    plan["runtime"]["image_cache"] = str(prepared)
    plan["command"]["files"] = [{"path": f"{cache}/metadata/vllm-1.dist-info/METADATA", "text": TEXT}]
    plan["command"]["links"] = [{"folder": f"{cache}/aiter/v1", "source": str(kernels), "pattern": "*.so"}]
    plan["command"]["env"] |= {
        "HF_HOME": str(cache),
        "VLLM_CACHE_ROOT": f"{cache}/vllm",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "AITER_JIT_DIR": f"{cache}/aiter/v1",
        "PYTHONPATH": f"{cache}/metadata:/mine:{cache}/metadata-of-mine",
    }
    return plan


def laid_out(plan: dict[str, Any]) -> dict[str, Any]:
    cache = Path(plan["runtime"]["cache_dir"])
    cache.mkdir(exist_ok=True)
    return dict(lay_out(plan, read_contract(plan)))


@pytest.mark.usefixtures("stingy")
def test_what_is_laid_out_can_be_read_by_everybody(tmp_path: Path) -> None:
    plan = plan_with_a_cache(tmp_path)
    (tmp_path / "cache").mkdir(mode=0o777)
    (tmp_path / "cache/vllm").mkdir(mode=0o700)  # of an earlier version of ours
    assert laid_out(plan) == plan
    below = [path for path in (tmp_path / "cache").rglob("*") if not path.is_symlink()]
    assert {path.name for path in below if path.is_file()} == {"METADATA", "x.json"}
    for path in below:
        assert stat.S_IMODE(path.stat().st_mode) == (0o644 if path.is_file() else 0o755), path
    assert (tmp_path / "cache/aiter/v1/a.so").read_text() == "a kernel"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")
def test_what_belongs_to_somebody_else_gets_a_place_of_our_own(tmp_path: Path) -> None:
    plan = plan_with_a_cache(tmp_path)
    cache = tmp_path / "cache"
    for name in ("metadata", "vllm", "aiter", "triton"):
        (cache / name).mkdir(parents=True, mode=0o755)
    for name in ("metadata", "vllm", "aiter"):
        os.chown(cache / name, 12345, 12345)
    found = laid_out(plan)
    env = found["command"]["env"]
    assert env["HF_HOME"] == str(cache)
    assert env["VLLM_CACHE_ROOT"] == f"{cache}/vllm-0"
    assert env["TRITON_CACHE_DIR"] == f"{cache}/triton"
    assert env["AITER_JIT_DIR"] == f"{cache}/aiter-0/v1"
    assert env["PYTHONPATH"] == f"{cache}/metadata-0:/mine:{cache}/metadata-of-mine"
    assert Path(found["command"]["files"][0]["path"]).read_text() == TEXT
    assert (cache / "aiter-0/v1/a.so").exists()
    assert (cache / "vllm-0/modelinfos/x.json").exists()
    assert [note for note in found["notes"] if f"{cache}/vllm belongs to uid 12345" in note]
    assert plan["command"]["env"]["VLLM_CACHE_ROOT"] == f"{cache}/vllm"  # what was given is not changed


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")
def test_a_folder_that_its_owner_shares_is_shared(tmp_path: Path) -> None:
    plan = plan_with_a_cache(tmp_path)
    (tmp_path / "cache/vllm").mkdir(parents=True)
    os.chown(tmp_path / "cache/vllm", 12345, 0)
    (tmp_path / "cache/vllm").chmod(0o2775)
    assert laid_out(plan) == plan


@NEEDS_ROOT
@pytest.mark.parametrize("mask", ["022", "077"])
def test_two_users_share_one_cache(mask: str) -> None:
    """As two containers with one volume: the image's cache folder is everybody's, and sticky."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are for one user alone
    folder.chmod(0o755)
    plan = plan_with_a_cache(folder)
    cache = folder / "cache"
    cache.mkdir()
    cache.chmod(0o1777)
    try:
        for number, prefix in enumerate(((), AS_NOBODY)):
            state = Path(tempfile.mkdtemp(dir=folder))
            os.chown(state, 54321 * number, -1)
            plan["runtime"]["state_dir"] = str(state)
            (folder / str(number)).mkdir()
            server = Server(plan, folder / str(number), {"HOME": "/nowhere"},
                            prefix=["sh", "-c", f'umask {mask}; exec "$@"', "sh", *prefix])  # fmt: skip
            try:
                server.until_ready()
                env = json.loads(server.get("/env", engine=True)[1])
            finally:
                server.stop()
            uid = 54321 * number
            assert env["HOME"] == f"{cache}/home-{uid}"
            assert Path(env["HOME"]).stat().st_uid == uid
            for name in ("VLLM_CACHE_ROOT", "AITER_JIT_DIR"):
                assert Path(env[name]).stat().st_uid == uid, name
            own_metadata = Path(env["PYTHONPATH"].partition(":")[0], "vllm-1.dist-info/METADATA")
            assert own_metadata.read_text() == TEXT
            assert own_metadata.stat().st_uid == 0  # what is the same need not be there twice
        assert stat.S_IMODE(cache.stat().st_mode) == 0o1777
    finally:
        shutil.rmtree(folder)


def test_starts_at_the_same_time_do_not_trip_over_each_other(tmp_path: Path) -> None:
    """In two containers both are pid 1."""
    path, errors = tmp_path / "cache" / "file", []

    def write(text: str) -> None:
        try:
            for _ in range(200):
                write_file(path, text)
        except CacheError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(text * 1000,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_home_that_cannot_be_written_is_moved_to_the_cache(tmp_path: Path) -> None:
    found = at_home({"HOME": "/nowhere", "USER": "u"}, str(tmp_path))
    assert found["HOME"] == f"{tmp_path}/home-{os.getuid()}"
    assert Path(found["HOME"]).is_dir()


def test_a_good_home_is_left_alone(tmp_path: Path) -> None:
    given = {"HOME": str(tmp_path), "USER": "u"}
    assert at_home(given, "/nowhere") == given


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
