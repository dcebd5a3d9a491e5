"""Paths as our own container sees them → paths of its host, and back: what `docker inspect` says of our mounts in.

The Docker Engine binds its own host's folders, so a path named in an orchestrator must be told as the host calls it.
Pure, but for the symlinks that are resolved here first, and the engine's answers on its volumes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.inside import CACHE_FOLDER, Mount
from aim_engine.errors import InputError

if TYPE_CHECKING:
    from docker import DockerClient

_PLAIN_VOLUMES = "local"  # the engine's own driver, without options: its volumes are folders of the host
_READ_ONLY = "ro"


@dataclass(frozen=True, kw_only=True)
class OwnMount:
    """What is mounted into our container at `target`. `source` is the host's file or folder, None where it is none
    (a tmpfs, a volume whose place is not known); `volume` is the name of one that is mounted whole.
    """

    target: str
    source: str | None
    volume: str | None = None
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class HostPaths:
    """The mounts of our own container."""

    mounts: tuple[OwnMount, ...]

    def on_host(self, path: str) -> str | None:
        """What the host calls an absolute path without symlinks; None for what only this container has."""
        mount = self._below(path)
        return None if mount is None or mount.source is None else _moved(path, mount.target, mount.source)

    def inside(self, path: str) -> str | None:
        """The way back: where we see a path of the host; None where we do not."""
        known = ((one, one.source) for one in self.mounts if one.source is not None)
        fitting = [(source, _moved(path, source, one.target)) for one, source in known if _is_below(path, source)]
        seen = [
            (source, found) for source, found in fitting if self.on_host(found) == path
        ]  # or another mount is over it
        return max(seen, key=lambda one: len(one[0]))[1] if seen else None

    def translated(self, mount: Mount) -> Iterator[Mount]:
        """A mount for another container, as the host calls it; with it what is mounted in our own below that path.

        Raises:
            InputError: its source is on no mount, so that no other container can see it.
        """
        if mount.is_volume:
            # the cache: what our own container has at the image's place for it is meant, if anything is
            if mount.target != CACHE_FOLDER or self._below(CACHE_FOLDER) is None:
                yield mount
                return
            mount = replace(mount, source=CACHE_FOLDER)
        path = os.path.realpath(mount.source)
        own = self._below(path)
        source = None if own is None else self._source(own, path)
        if own is None or source is None:
            raise _unseen(path, own)
        if own.read_only and not mount.read_only:
            raise InputError(
                f"{path} is mounted read-only into this container, and the new one must write it",
                hint=f"mount it without :{_READ_ONLY}, or name another folder",
            )
        yield replace(mount, source=source)
        for nested in self.mounts:
            if nested.target != path and _is_below(nested.target, path) and (nested.volume or nested.source):
                yield Mount(
                    source=nested.volume or str(nested.source),
                    target=_moved(nested.target, path, mount.target),
                    read_only=mount.read_only or nested.read_only,
                )

    @staticmethod
    def _source(own: OwnMount, path: str) -> str | None:
        if path == own.target and own.volume:
            return own.volume
        return None if own.source is None else _moved(path, own.target, own.source)

    def _below(self, path: str) -> OwnMount | None:
        """The innermost mount that the path lies on."""
        over = [one for one in self.mounts if _is_below(path, one.target)]
        return max(over, key=lambda one: len(one.target), default=None)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _moved(path: str, folder: str, to: str) -> str:
    """`/in/a/b` from `/in` to `/host`: `/host/a/b`."""
    rest = path[len(folder.rstrip("/")) :]
    return to.rstrip("/") + rest or "/"


def _unseen(path: str, own: OwnMount | None) -> InputError:
    if own is None:
        why = "lies in this container alone, where the Docker Engine does not see it"
    elif own.volume is not None:
        why = f"lies in the volume {own.volume}, whose place on the host is not known"
    else:
        why = f"lies on a tmpfs of this container ({own.target}), which no other one sees"
    return InputError(
        f"{path} {why}",
        hint=f"add -v FOLDER_OF_THE_HOST:{path} to the docker run of this container, or name a path on one of its "
        "mounts",
    )


def host_paths(client: DockerClient, own: Mapping[str, Any]) -> HostPaths:
    """The mounts of our own container, of which `own` is what `docker inspect` says."""
    listed = [one for one in own.get("Mounts") or () if isinstance(one, Mapping) and one.get("Destination")]
    volumes = {str(one["Name"]): _volume(client, one) for one in listed if one.get("Type") == "volume"}
    tmpfs = (own.get("HostConfig") or {}).get("Tmpfs") or {}
    return HostPaths(
        mounts=(
            *(_own_mount(one, volumes) for one in listed),
            *(OwnMount(target=_plain(target), source=None) for target in tmpfs),
        )
    )


def _own_mount(said: Mapping[str, Any], volumes: Mapping[str, str | None]) -> OwnMount:
    kind, target = said.get("Type"), _plain(str(said["Destination"]))
    read_only = said.get("RW") is False
    if kind == "volume":
        name = str(said["Name"])
        return OwnMount(target=target, source=volumes[name], volume=name, read_only=read_only)
    return OwnMount(target=target, source=(said.get("Source") or None) if kind == "bind" else None, read_only=read_only)


def _volume(client: DockerClient, said: Mapping[str, Any]) -> str | None:
    """The folder of a volume. One with options (nfs, a device) is mounted only while a container has it, so that what
    is in its folder is not always what is in it.
    """
    from docker.errors import APIError

    if said.get("Driver") != _PLAIN_VOLUMES:
        return None
    with suppress(APIError):
        found = client.api.inspect_volume(said["Name"])
        return None if found.get("Options") else found.get("Mountpoint") or None
    return None


def _plain(target: str) -> str:
    """Without symlinks: what is mounted at /var/run/x lies at /run/x in most images."""
    return os.path.realpath(target)
