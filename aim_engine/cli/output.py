"""Texts → the file or the folder that `-o` names, each file whole or as it was. Knows nothing of what they say."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aim_engine.errors import CacheError, InputError

_HINT = "name a file in a folder that you may write"


def is_stream(path: Path) -> bool:
    """Whether it is there and neither a file nor a folder: /dev/stdout, /dev/null, a pipe."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_file(path: Path, text: str) -> None:
    """Put the text there, over what was there.

    Raises:
        CacheError: it cannot be written; what was there is kept.
    """
    try:
        if is_stream(path):
            path.write_text(text, encoding="utf-8")
        else:
            _put(Path(os.path.realpath(path)), text)  # a link stays one
    except OSError as error:
        raise CacheError(f"{path} cannot be written: {error.strerror}", hint=_HINT) from None


def write_folder(folder: Path, files: Mapping[str, str], *, first: str, mark: str) -> None:
    """Put the files there, by their paths below it. Where the `first` of them is there already, it must bear the `mark`
    of an earlier time: anything else there is the user's own.

    Raises:
        InputError: the folder holds files of the user's with these names.
        CacheError: one of them cannot be written.
    """
    there = [name for name in files if os.path.isfile(folder / name)]  # noqa: PTH113 - no error for a name too long
    if there and mark not in _read(folder / first):
        raise InputError(
            f"{folder / there[0]} is there already and was not written by this command: it would be lost",
            hint="name another folder, or remove that file",
        )
    for name, text in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"{path} cannot be written: {error.strerror}", hint=_HINT) from None
        write_file(path, text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# What may be written although nothing may be put in its place: a file in a folder of somebody else's, a mounted one.
_IN_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENAMETOOLONG)


def _put(path: Path, text: str) -> None:
    try:
        _replace(path, text)
    except OSError as error:
        if error.errno not in _IN_PLACE or not path.is_file():
            raise
        path.write_text(text, encoding="utf-8")


def _replace(path: Path, text: str) -> None:
    """In one step, so that a full disk leaves what was there."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.is_file() else 0o666 & ~_umask()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    descriptor, temporary = tempfile.mkstemp(prefix=".aim-engine-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        Path(temporary).replace(path)
    except OSError:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
