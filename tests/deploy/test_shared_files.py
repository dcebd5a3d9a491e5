"""What a container shares with whoever launches it: the cache's folder, its owner, and the words where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from aim_engine.deploy.host_paths import HostPaths, OwnMount
from aim_engine.deploy.reach import Vantage
from aim_engine.deploy.secrets import secrets_folder
from aim_engine.deploy.shared_files import make_cache, owner_of_cache, shown_secrets
from aim_engine.errors import CacheError
from tests.deploy.planning import cpu_plan

FOLDER = secrets_folder({"HOME": "/root"}, "c")


def test_a_cache_on_a_mount_is_made_and_elsewhere_is_not(tmp_path: Path) -> None:
    plan = cpu_plan(cache_dir=str(tmp_path / "a" / "b"))
    make_cache(plan, Vantage(by_socket=False))
    make_cache(plan, Vantage(own={}, paths=HostPaths(mounts=())))
    assert not (tmp_path / "a").exists()
    mounted = HostPaths(mounts=(OwnMount(target=str(tmp_path), source="/srv"),))
    make_cache(plan, Vantage(networks={}, own={}, paths=mounted))
    assert (tmp_path / "a" / "b").is_dir()


def test_one_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be made"):
        make_cache(cpu_plan(cache_dir=str(tmp_path / "file" / "b")), Vantage())


def test_the_owner_as_seen_here(tmp_path: Path) -> None:
    found = tmp_path.stat()
    expected = f"{found.st_uid}:{found.st_gid}" if found.st_uid else None
    assert owner_of_cache(cpu_plan(cache_dir=str(tmp_path))) == expected
    assert owner_of_cache(cpu_plan(cache_dir=str(tmp_path / "no"))) is None
    assert owner_of_cache(cpu_plan()) is None


def test_the_warning_says_how_to_get_files() -> None:
    said = shown_secrets("AIM_API_KEY", FOLDER, Vantage(own={}, paths=HostPaths(mounts=())))
    assert "docker inspect shows it" in said
    assert "-v FOLDER_OF_THE_HOST:/root/.local/state/aim-engine " in said
    assert "-v" not in shown_secrets("AIM_API_KEY", FOLDER, Vantage(by_socket=False))
