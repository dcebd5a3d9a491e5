"""Where evidence lies: a cache folder, a class of failure and texts by file name in; a folder that appears whole, out.

`evidence/<time>-<class>` in the cache, ours alone to read; each file is cut to a size and the newest few folders stay.
In a cache that several users share, `evidence-<uid>` where the other is not ours. Knows nothing of what is in them.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from contextlib import suppress

FOLDER = "evidence"
KEPT = 8
FILE_BYTES = 256 * 1024
_FOLDER_MODE, _BUNDLE_MODE, _FILE_MODE = 0o755, 0o700, 0o600
_STALE_SECONDS = 600.0  # what somebody who was killed has left half made
_NAME = re.compile(r"\d{8}T\d{6}Z-\w+(-\d+)?", re.ASCII)  # nothing else in there is ours to remove
_HALF = re.compile(r"\.\d{8}T\d{6}Z-\w+-\d+", re.ASCII)


def keep_bundle(cache_dir: str, name: str, texts: Mapping[str, str]) -> str:
    """Write the files into a new folder, and let the oldest go; where it is.

    Raises:
        OSError: the folder cannot be made or written.
    """
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}"
    try:
        return _keep(f"{cache_dir}/{FOLDER}", name, texts)
    except PermissionError:  # the cache is shared, and this part of it is another user's
        return _keep(f"{cache_dir}/{FOLDER}-{os.getuid()}", name, texts)


def _keep(root: str, name: str, texts: Mapping[str, str]) -> str:
    with suppress(FileExistsError):
        os.makedirs(root, mode=_FOLDER_MODE)  # noqa: PTH103 - slim
    half = f"{root}/.{name}-{os.getpid()}"
    os.mkdir(half, _BUNDLE_MODE)  # noqa: PTH102 - slim
    try:
        for file, text in texts.items():
            _write(f"{half}/{file}", text)
        path = _named(half, f"{root}/{name}")
    except BaseException:
        _remove(half)
        raise
    _prune(root, path)
    return path


def _write(path: str, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > FILE_BYTES:  # what was said last tells most
        tail = data[-FILE_BYTES:]
        data = b"[cut]\n" + (tail.partition(b"\n")[2] or tail)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _named(half: str, path: str) -> str:
    """Give the folder its name, with a number where another server failed in the same second: a folder with files in it
    is never replaced (rename(2)).
    """
    for wanted in (path, *(f"{path}-{number}" for number in range(2, 10))):
        with suppress(OSError):
            os.rename(half, wanted)  # noqa: PTH104 - slim
            return wanted
    os.rename(half, f"{path}-{os.getpid()}")  # noqa: PTH104 - slim
    return f"{path}-{os.getpid()}"


def _prune(root: str, newest: str) -> None:
    """Names begin with the time; `newest` stays whatever the clock says."""
    try:
        names = sorted(name for name in os.listdir(root) if f"{root}/{name}" != newest)  # noqa: PTH208 - slim
    except OSError:
        return
    whole = [name for name in names if _NAME.fullmatch(name)]
    half = [name for name in names if _HALF.fullmatch(name) and _age_seconds(f"{root}/{name}") > _STALE_SECONDS]
    for name in [*whole[: max(0, len(whole) - (KEPT - 1))], *half]:
        _remove(f"{root}/{name}")


def _age_seconds(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _remove(folder: str) -> None:
    """Only a folder that is ours, and no link: others may write beside us. It holds files only."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode):
                for name in os.listdir(descriptor):  # noqa: PTH208 - slim
                    os.unlink(name, dir_fd=descriptor)
                os.rmdir(folder)  # noqa: PTH106 - slim
        finally:
            os.close(descriptor)
