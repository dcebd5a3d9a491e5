"""The host's folders that a container writes, its cache and its logs: a plan and our place in; whom the container runs
as, and the folders made, out.

A container without capabilities has a root that is an ordinary user to the files of others: so it runs as their owner.
Folders that the engine's host does not have are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aim_engine.deploy.reach import Vantage
from aim_engine.errors import CacheError
from aim_engine.plan import Plan

_CACHE_MODE, _LOGS_MODE = 0o777, 0o750
_ACL = "system.posix_acl_access"


@dataclass(frozen=True, kw_only=True)
class Folder:
    """One of them, by the flag that names it; `status` is None where it is not there yet."""

    flag: str
    path: Path
    mode: int
    status: os.stat_result | None


def owner_of_folders(plan: Plan, place: Vantage) -> str | None:
    """`UID:GID` of the first that is there, else of whoever will make them; None for root, or where there is none."""
    folders = sorted(_folders(plan, place), key=lambda one: one.status is None)
    if not folders:
        return None
    status = folders[0].status
    uid, gid = (status.st_uid, status.st_gid) if status else (os.geteuid(), os.getegid())
    return f"{uid}:{gid}" if uid else None


def check_folders(plan: Plan, user: str | None, place: Vantage) -> None:
    """That the container's user can write them, or will be able to.

    Raises:
        CacheError: one is no folder, or its user could not write it.
    """
    uid, gid = _numbers(user)
    folders = list(_folders(plan, place))
    for one in folders:
        if one.status is None:
            if os.geteuid() not in (0, uid):
                raise _unwritable(one, f"and would be uid {os.geteuid()}'s, who makes it", user, folders)
        elif not one.path.is_dir():
            raise CacheError(f"{one.flag} {one.path} is no folder", hint="name a folder")
        elif not _may_write(one, uid, gid):
            raise _unwritable(one, f"which is uid {one.status.st_uid}'s", user, folders)


def make_folders(plan: Plan, user: str | None, place: Vantage) -> None:
    """Make those that are not there, as the user's own; the engine makes none.

    Raises:
        CacheError: one cannot be made.
    """
    uid, gid = _numbers(user)
    for one in _folders(plan, place):
        try:
            made = not one.path.exists()
            one.path.mkdir(mode=one.mode, parents=True, exist_ok=True)
            if made and os.geteuid() == 0 and uid:
                os.chown(one.path, uid, gid)
        except OSError as error:
            raise CacheError(
                f"{one.path} cannot be made: {error.strerror}", hint=f"name another with {one.flag}"
            ) from None


def _folders(plan: Plan, place: Vantage) -> Iterator[Folder]:
    """Those that were named; without a name the cache is a volume, and there is no log folder."""
    request = plan.request
    named = []
    if request.origins.get("cache_dir", "default") != "default":
        named.append(("--cache", request.cache_dir, _CACHE_MODE))
    if request.log_dir is not None:
        named.append(("--logs", request.log_dir, _LOGS_MODE))
    for flag, path, mode in named:
        if place.on_host(path) is not None:
            yield _folder(flag, path, mode)


def _folder(flag: str, path: Path, mode: int) -> Folder:
    status = None
    with suppress(OSError):
        status = path.stat()
    return Folder(flag=flag, path=path, mode=mode, status=status)


def _numbers(user: str | None) -> tuple[int, int]:
    """As Docker reads it: a user that the image does not know is of group 0 unless another is said."""
    uid, _, gid = (user or "0").partition(":")
    return int(uid), int(gid or 0)


def _may_write(folder: Folder, uid: int, gid: int) -> bool:
    """By its owner, group and mode; a list of further users (acl(5)) may say yes to anybody."""
    status = folder.status
    if status is None:
        return True
    with suppress(OSError):
        if _ACL in os.listxattr(folder.path):
            return True
    shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
    return status.st_mode >> shift & 0o3 == 0o3


def _unwritable(folder: Folder, whose: str, user: str | None, folders: list[Folder]) -> CacheError:
    uid, gid = _numbers(user)
    others = [one for one in folders if one is not folder and one.status and one.status.st_uid == uid]
    owner = f", whose is {others[0].flag} {others[0].path}" if others else ""
    return CacheError(
        f"the container would run as uid {uid}{owner}, and could not write {folder.flag} {folder.path}, {whose}",
        hint=f"chown {uid}:{gid} that folder, name another with {folder.flag}, or say with --user whom it is to run as",
    )
