"""folders.py: whom a container runs as, so that it can write the folders of the host that it is given."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from aim_engine.deploy.folders import check_folders, make_folders, owner_of_folders
from aim_engine.deploy.host_paths import HostPaths, OwnMount
from aim_engine.deploy.reach import Vantage
from aim_engine.errors import CacheError
from aim_engine.plan import Plan
from tests.deploy.planning import cpu_plan

ME = os.geteuid()
OTHER = 54321
HERE = Vantage()
as_root = pytest.mark.skipif(ME != 0, reason="only root can give a folder to another")


def plan_with(cache: Path | None, logs: Path | None) -> Plan:
    flags = {"cache_dir": cache, "log_dir": logs}
    return cpu_plan(**{name: str(path) for name, path in flags.items() if path})


def owned(path: Path, uid: int = ME, mode: int = 0o755) -> Path:
    path.mkdir()
    path.chmod(mode)
    os.chown(path, uid, uid if uid == OTHER else -1)
    return path


def test_nobody_s_where_no_folder_is_named() -> None:
    assert owner_of_folders(plan_with(None, None), HERE) is None
    check_folders(plan_with(None, None), None, HERE)


def test_a_folder_on_a_mount_is_made_and_elsewhere_is_not(tmp_path: Path) -> None:
    plan = plan_with(tmp_path / "a" / "b", None)
    for nowhere in (Vantage(by_socket=False), Vantage(own={}, paths=HostPaths(mounts=()))):
        make_folders(plan, None, nowhere)
        assert owner_of_folders(plan, nowhere) is None
    assert not (tmp_path / "a").exists()
    mounted = HostPaths(mounts=(OwnMount(target=str(tmp_path), source="/srv"),))
    make_folders(plan, None, Vantage(networks={}, own={}, paths=mounted))
    assert (tmp_path / "a" / "b").is_dir()


@as_root
def test_the_owner_of_the_cache_then_of_the_logs_then_of_neither(tmp_path: Path) -> None:
    mine, other = owned(tmp_path / "mine"), owned(tmp_path / "other", OTHER)
    assert owner_of_folders(plan_with(other, None), HERE) == f"{OTHER}:{OTHER}"
    assert owner_of_folders(plan_with(None, other), HERE) == f"{OTHER}:{OTHER}"
    assert owner_of_folders(plan_with(other, mine), HERE) == f"{OTHER}:{OTHER}"
    assert owner_of_folders(plan_with(mine, other), HERE) is None
    assert owner_of_folders(plan_with(tmp_path / "absent", other), HERE) == f"{OTHER}:{OTHER}"
    assert owner_of_folders(plan_with(tmp_path / "absent", None), HERE) is None


@as_root
def test_two_owners_are_an_error_that_names_both(tmp_path: Path) -> None:
    cache, logs = owned(tmp_path / "cache", OTHER), owned(tmp_path / "logs")
    plan = plan_with(cache, logs)
    with pytest.raises(CacheError) as caught:
        check_folders(plan, owner_of_folders(plan, HERE), HERE)
    assert caught.value.code == 42
    assert f"uid {OTHER}, whose is --cache {cache}, and could not write --logs {logs}" in caught.value.message
    assert "uid 0's" in caught.value.message
    assert caught.value.hint.startswith(f"chown {OTHER}:{OTHER} that folder, name another with --logs")
    logs.chmod(0o777)
    check_folders(plan, owner_of_folders(plan, HERE), HERE)


@as_root
def test_the_image_s_root_may_not_write_a_stranger_s_folder(tmp_path: Path) -> None:
    cache, logs = owned(tmp_path / "cache"), owned(tmp_path / "logs", OTHER)
    with pytest.raises(CacheError, match=f"uid 0, whose is --cache .* could not write --logs .* uid {OTHER}'s"):
        check_folders(plan_with(cache, logs), None, HERE)


@pytest.mark.parametrize(
    ("mode", "user", "may"),
    [(0o755, f"{ME}", True), (0o555, f"{ME}", False), (0o770, f"{OTHER}:{os.getegid()}", True),
     (0o770, f"{OTHER}:{OTHER}", False), (0o773, f"{OTHER}:{OTHER}", True), (0o772, f"{OTHER}:{OTHER}", False),
     (0o077, f"{ME}", False)],
)  # fmt: skip
def test_owner_group_and_others(tmp_path: Path, mode: int, user: str, may: bool) -> None:
    logs = owned(tmp_path / "logs", mode=mode)
    try:
        if may:
            check_folders(plan_with(None, logs), user, HERE)
        else:
            with pytest.raises(CacheError, match="could not write --logs"):
                check_folders(plan_with(None, logs), user, HERE)
    finally:
        logs.chmod(0o755)


def test_a_list_of_further_users_may_allow_it(tmp_path: Path) -> None:
    """acl(5), as the kernel stores it: version 2; the owner, one more user, the group, the mask, and others."""
    logs = owned(tmp_path / "logs", mode=0o700)
    entries = ((0x01, 7, 2**32 - 1), (0x02, 7, OTHER), (0x04, 0, 2**32 - 1), (0x10, 7, 2**32 - 1), (0x20, 0, 2**32 - 1))
    with pytest.raises(CacheError):
        check_folders(plan_with(None, logs), f"{OTHER}:{OTHER}", HERE)
    try:
        os.setxattr(
            logs, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
        )
    except OSError:
        pytest.skip("this file system has no access lists")
    check_folders(plan_with(None, logs), f"{OTHER}:{OTHER}", HERE)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(CacheError, match="is no folder"):
        check_folders(plan_with(None, tmp_path / "logs"), f"{ME}", HERE)


def test_both_are_made_and_the_logs_are_not_for_all(tmp_path: Path) -> None:
    plan = plan_with(tmp_path / "a" / "cache", tmp_path / "b" / "logs")
    check_folders(plan, owner_of_folders(plan, HERE), HERE)
    make_folders(plan, owner_of_folders(plan, HERE), HERE)
    assert (tmp_path / "a" / "cache").is_dir()
    assert stat.S_IMODE((tmp_path / "b" / "logs").stat().st_mode) & 0o007 == 0
    make_folders(plan, owner_of_folders(plan, HERE), HERE)


@as_root
def test_what_root_makes_is_the_container_s(tmp_path: Path) -> None:
    plan = plan_with(owned(tmp_path / "cache", OTHER), tmp_path / "logs")
    check_folders(plan, owner_of_folders(plan, HERE), HERE)
    make_folders(plan, owner_of_folders(plan, HERE), HERE)
    assert (tmp_path / "logs").stat().st_uid == OTHER
    assert (tmp_path / "cache").stat().st_uid == OTHER


def test_what_somebody_else_would_make_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    plan = plan_with(None, tmp_path / "logs")
    check_folders(plan, "1234:1234", HERE)
    with pytest.raises(CacheError, match="would be uid 1234's, who makes it"):
        check_folders(plan, "0", HERE)


def test_one_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be made: Not a directory") as caught:
        make_folders(plan_with(None, tmp_path / "file" / "logs"), None, HERE)
    assert "--logs" in caught.value.hint
