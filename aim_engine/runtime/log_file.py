"""A log file of ours: whole lines in; a file that is appended to, rotated by size, and nobody else's, out.

`name.log` is the newest, `name.log.1` the one before, and so on. What stands in the way is an OSError for whoever
calls. Knows nothing of what the lines mean, and starts nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

_MODE, _FOLDER_MODE = 0o640, 0o750
# NOFOLLOW: a link in the file's place would lead us elsewhere. NONBLOCK: a pipe there is not waited for.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAMES = 9  # name.log, name-2.log, ...: servers that would write the same file


class LogFile:
    """One file. It is held by a lock: where another server has it, `path` becomes `name-2.log`. Someone who takes the
    file away (logrotate does) is followed to a new one.
    """

    def __init__(self, path: str, *, limit_bytes: int, count: int) -> None:
        self.path = path
        self._asked = path
        self._limit = limit_bytes
        self._count = count
        self._descriptor: int | None = None

    def append(self, lines: bytes) -> int:
        """Write some of the lines, whole ones, and return how many bytes that was; to be called until all are written.

        Raises:
            OSError: nothing could be written.
        """
        try:
            return self._append(lines)
        except OSError:
            self.close()  # the next attempt begins anew: a mount may have come back
            raise

    def close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    def _append(self, lines: bytes) -> int:
        descriptor = self._followed()
        size = os.fstat(descriptor).st_size
        first = lines.find(b"\n") + 1 or len(lines)
        if size and size + first > self._limit:
            descriptor, size = self._rotated(descriptor), 0
        end = len(lines)
        if size + end > self._limit:
            end = max(lines.rfind(b"\n", 0, self._limit - size) + 1, first)
        written = os.write(descriptor, lines[:end])
        return written if written == end else _whole(descriptor, size, lines[:written])

    def _followed(self) -> int:
        """The open file, or a new one where it is not there any more."""
        if self._descriptor is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor)):
                    return self._descriptor
            self.close()
        folder = os.path.dirname(self.path)  # noqa: PTH120 - slim
        with suppress(FileExistsError):
            os.makedirs(folder, mode=_FOLDER_MODE)  # noqa: PTH103 - slim
        self._descriptor = self._opened()
        return self._descriptor

    def _opened(self) -> int:
        for path in self._paths():
            descriptor = os.open(path, _FLAGS, _MODE)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "it is not a regular file")
            if _is_ours(descriptor):
                self.path = path
                return descriptor
            os.close(descriptor)
        raise OSError(errno.EBUSY, "other servers write it")

    def _paths(self) -> Iterator[str]:
        """The one written last first, then those it could be."""
        stem = self._asked.removesuffix(".log")
        yield self.path
        yield self._asked
        for number in range(2, _NAMES + 1):
            yield f"{stem}-{number}.log"

    def _rotated(self, full: int) -> int:
        """Give every file the next number and begin a new one; the oldest goes. The full one stays locked until the new
        one is, so that its name remains ours.
        """
        for number in range(self._count - 1, 1, -1):
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number - 1}", f"{self.path}.{number}")  # noqa: PTH104 - slim
        if self._count > 1:
            os.rename(self.path, f"{self.path}.1")  # noqa: PTH104 - slim
        else:
            os.unlink(self.path)  # noqa: PTH108 - slim
        self._descriptor = None
        try:
            self._descriptor = self._opened()
        finally:
            os.close(full)
        return self._descriptor


def _is_ours(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _whole(descriptor: int, size: int, written: bytes) -> int:
    """The disk is full in the middle of a line: take that line's beginning back, it will be written whole later."""
    kept = written.rfind(b"\n") + 1
    with suppress(OSError):
        os.ftruncate(descriptor, size + kept)
    if not kept:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return kept
