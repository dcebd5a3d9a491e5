"""Folders that must be written: a folder in; nothing, or a `CacheError` that says whose fault it is, out.

Leaves nothing behind in a folder that is there. Knows nothing of what is kept in it.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from aim_engine.errors import CacheError


def check_writable(what: str, folder: Path, setting: str) -> None:
    """Write to a folder once, by a file without a name.

    Raises:
        CacheError: it cannot be written; `what` and `setting` are what the folder is, and is set by.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(what, str(folder), setting, error) from error


def deepest_existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there: its file system is where the folder would be."""
    for place in (path, *path.parents):
        if os.path.exists(place):  # noqa: PTH110 - says no where Path.exists raises
            return place
    return Path("/")


def unwritable(what: str, path: str, setting: str, error: OSError) -> CacheError:
    """The error for a folder or a file that could not be written, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheError(f"{what} {path} is full", hint=f"free some space, or set {setting} to a larger volume")
    return CacheError(
        f"{what} {path} cannot be written by uid {os.getuid()}: {error.strerror}",
        hint=f"mount a volume there that uid {os.getuid()} may write, or set {setting}",
    )
