"""Paths of our own container as the host's: mounts in mounts, volumes, links, and what no other container sees."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.deploy.host_paths import HostPaths, OwnMount, host_paths
from aim_engine.deploy.inside import CACHE_FOLDER, CACHE_VOLUME, Mount
from aim_engine.errors import InputError
from tests.building import examples
from tests.deploy.running import inspected


def bind(target: str, source: str, **more: Any) -> OwnMount:
    return OwnMount(target=target, source=source, **more)


PATHS = HostPaths(
    mounts=(
        bind("/data", "/srv/a"),
        bind("/data/models", "/big/models"),
        bind("/cfg", "/etc/aim", read_only=True),
        bind("/all", "/"),
        OwnMount(target="/data/tmp", source=None),
        OwnMount(target="/vol", source="/var/lib/docker/volumes/v/_data", volume="v"),
        OwnMount(target="/nfs", source=None, volume="n"),
    )
)


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/data", "/srv/a"),
        ("/data/x y/z", "/srv/a/x y/z"),
        ("/data/models", "/big/models"),
        ("/data/models/q", "/big/models/q"),
        ("/data/modelsx", "/srv/a/modelsx"),
        ("/database", None),
        ("/data/tmp/x", None),
        ("/vol/sub", "/var/lib/docker/volumes/v/_data/sub"),
        ("/nfs/sub", None),
        ("/all/etc", "/etc"),
        ("/all", "/"),
        ("/", None),
    ],
)
def test_the_innermost_mount_counts(path: str, host: str | None) -> None:
    assert PATHS.on_host(path) == host


@pytest.mark.parametrize(
    ("host", "path"),
    [("/srv/a/x", "/data/x"), ("/big/models/q", "/data/models/q"), ("/srv/a/models/q", "/all/srv/a/models/q"),
     ("/srv/ab", "/all/srv/ab")],
)  # fmt: skip
def test_the_way_back_is_what_is_seen_there(host: str, path: str) -> None:
    """/srv/a/models is hidden behind what is mounted over it, but seen by another way."""
    assert PATHS.inside(host) == path


def test_what_is_not_seen_here_has_no_way_back() -> None:
    assert HostPaths(mounts=PATHS.mounts[:2]).inside("/srv/a/models/q") is None
    assert HostPaths(mounts=()).inside("/x") is None


_NAMES = st.text(alphabet="ab /.\n", min_size=1, max_size=3).map(lambda text: text.replace("/", "b").replace(".", "a"))
_TREES = st.lists(_NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))


@examples(200)
@given(mounts=st.dictionaries(_TREES, _TREES, max_size=4), path=_TREES)
def test_there_and_back(mounts: dict[str, str], path: str) -> None:
    paths = HostPaths(mounts=tuple(bind(target, source) for target, source in mounts.items()))
    host = paths.on_host(path)
    assert (host is None) == (not any(path == one or path.startswith(one + "/") for one in mounts))
    if host is not None:
        back = paths.inside(host)
        assert back is not None
        assert paths.on_host(back) == host


# --- mounts for another container -----------------------------------------------------------------------------------


def translated(source: str, *, paths: HostPaths = PATHS, **more: Any) -> list[tuple[str, str, bool]]:
    mount = Mount(source=source, target=more.pop("target", "/t"), **more)
    return [(one.source, one.target, one.read_only) for one in paths.translated(mount)]


def test_what_is_mounted_below_comes_along() -> None:
    """As it would on the host, where the folder is one tree."""
    assert translated("/data") == [("/srv/a", "/t", False), ("/big/models", "/t/models", False)]
    assert translated("/data", read_only=True)[1] == ("/big/models", "/t/models", True)


def test_a_whole_volume_goes_by_its_name_and_a_part_by_its_folder() -> None:
    assert translated("/vol") == [("v", "/t", False)]
    assert translated("/nfs") == [("n", "/t", False)]
    assert translated("/vol/a") == [("/var/lib/docker/volumes/v/_data/a", "/t", False)]


@pytest.mark.parametrize(
    ("source", "words"),
    [("/opt/x", "in this container alone"), ("/data/tmp/x", "on a tmpfs"), ("/nfs/x", "in the volume n")],
)
def test_what_only_this_container_has_is_refused(source: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        translated(source)
    assert f"-v FOLDER_OF_THE_HOST:{source}" in caught.value.hint
    assert caught.value.code == 10


def test_what_is_read_only_here_is_not_written_elsewhere() -> None:
    with pytest.raises(InputError, match="read-only"):
        translated("/cfg/cache")
    assert translated("/cfg/recipes", read_only=True) == [("/etc/aim/recipes", "/t", True)]


def test_links_are_followed_here(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "out").symlink_to("/usr")
    paths = HostPaths(mounts=(bind(str(tmp_path), "/h"),))
    assert translated(f"{tmp_path}/link/m", paths=paths) == [("/h/real/m", "/t", False)]
    with pytest.raises(InputError, match="/usr lies in this container alone"):
        translated(f"{tmp_path}/out", paths=paths)


def test_the_cache_that_is_mounted_here_is_the_one_meant() -> None:
    volume = Mount(source=CACHE_VOLUME, target=CACHE_FOLDER)
    assert list(PATHS.translated(volume)) == [volume]
    own = HostPaths(mounts=(bind(CACHE_FOLDER, "/srv/cache"),))
    assert [one.source for one in own.translated(volume)] == ["/srv/cache"]


# --- from what docker inspect says ------------------------------------------------------------------------------------


def volumes(**said: Any) -> Any:
    def inspect_volume(name: str) -> Any:
        return said[name]

    return SimpleNamespace(api=SimpleNamespace(inspect_volume=inspect_volume))


def own(*mounts: dict[str, Any], tmpfs: tuple[str, ...] = ()) -> dict[str, Any]:
    """As Docker Engine 20.10 says it."""
    found = copy.deepcopy(inspected("orchestrator"))
    found["Mounts"] = list(mounts)
    found["HostConfig"]["Tmpfs"] = dict.fromkeys(tmpfs, "")
    return found


def volume(name: str, driver: str = "local") -> dict[str, Any]:
    return {"Type": "volume", "Name": name, "Source": f"/v/{name}/_data", "Destination": f"/{name}", "Driver": driver,
            "Mode": "z", "RW": True, "Propagation": ""}  # fmt: skip


def test_binds_and_tmpfs() -> None:
    said = own(
        {
            "Type": "bind",
            "Source": "/tmp/x",
            "Destination": "/t/",
            "Mode": "ro",
            "RW": False,
            "Propagation": "rprivate",
        },
        {"Type": "tmpfs", "Source": "", "Destination": "/t2", "Mode": "", "RW": True, "Propagation": ""},
        tmpfs=("/t/scratch",),
    )
    assert host_paths(volumes(), said).mounts == (
        OwnMount(target="/t", source="/tmp/x", read_only=True),
        OwnMount(target="/t2", source=None),
        OwnMount(target="/t/scratch", source=None),
    )


@pytest.mark.parametrize(
    ("driver", "said", "place"),
    [
        ("local", {"Mountpoint": "/v/a/_data", "Options": None}, "/v/a/_data/x"),
        ("local", {"Mountpoint": "/v/a/_data", "Options": {"type": "nfs"}}, None),
        ("local", {"Mountpoint": ""}, None),
        ("rexray", {"Mountpoint": "/v/a/_data", "Options": None}, None),
    ],
)
def test_only_a_plain_local_volume_is_a_folder_of_the_host(driver: str, said: Any, place: str | None) -> None:
    assert host_paths(volumes(a=said), own(volume("a", driver))).on_host("/a/x") == place
