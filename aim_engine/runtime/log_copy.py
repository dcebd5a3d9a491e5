"""The copy of this process's output in a file: pieces of stdout and stderr in, whole lines into a `LogFile` out.

Whoever hands something over never waits and never fails: lines are written by a thread of their own, and while the file
takes none they wait in memory, as many as there is room for. What is lost is counted, and said in the file.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aim_engine.runtime.log import Log
from aim_engine.runtime.log_file import LogFile

_BACKLOG_BYTES = 8 << 20
_WRITE_BYTES = 1 << 20
_RETRY_SECONDS = 30.0
_FINISH_SECONDS = 2.0


class LogCopy:
    """What waits to be written, and the file it goes to. `pour` writes it now; with `start` a thread does."""

    def __init__(
        self, file: LogFile, log: Log, *, backlog_bytes: int = _BACKLOG_BYTES, retry_seconds: float = _RETRY_SECONDS
    ) -> None:
        self._file = file
        self._log = log
        self._asked = file.path
        self._backlog_bytes = backlog_bytes
        self._retry_seconds = retry_seconds
        self._retry_at: float | None = None  # set while the file takes nothing
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._current = b""
        self._missing = 0
        self._changed = threading.Condition()
        self._ends = False
        self._thread: threading.Thread | None = None

    def take(self, lines: bytes) -> None:
        """Whole lines, to be written soon. Where there is no room for them, the oldest that wait make it."""
        with self._changed:
            self._waiting.append(lines)
            self._size += len(lines)
            while self._size > self._backlog_bytes:
                oldest = self._waiting.popleft()
                self._size -= len(oldest)
                self._missing += oldest.count(b"\n")
            self._changed.notify()

    def take_now(self, lines: bytes) -> None:
        """The same for a process that has no thread for it."""
        self.take(lines)
        self.pour()

    def pour(self) -> None:
        """Write what waits, unless the file has refused lately. Never fails."""
        if self._retry_at is not None and time.monotonic() < self._retry_at:
            return
        try:
            while lines := self._next():
                self._current = lines[self._file.append(lines) :]
                self._tell_where()
                self._tell_recovery()
        except Exception as error:  # whatever it is, the server goes on, and so does the rest of its output
            self._tell_failure(error)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log file", daemon=True)
        self._thread.start()

    def finish(self, seconds: float = _FINISH_SECONDS) -> None:
        """Write what still waits, for so long at most: a file system that hangs must not keep the process."""
        with self._changed:
            self._ends = True
            self._retry_at = None if self._retry_at is None else 0.0  # a last attempt
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._ends:
            self._wait()
            self.pour()
        self.pour()  # what came while the last was written

    def _wait(self) -> None:
        with self._changed:
            while not self._ends:
                pause = None if self._retry_at is None else self._retry_at - time.monotonic()
                if (pause is None and self._waiting) or (pause is not None and pause <= 0):
                    return
                self._changed.wait(pause)

    def _next(self) -> bytes:
        """What is to be written next; nothing where nothing waits."""
        with self._changed:
            if not self._current and self._missing:
                self._current = self._log.line("warning", f"{self._missing} lines are missing here")
                self._missing = 0
            if not self._current:
                self._current = b"".join(self._popped())
                self._size -= len(self._current)
            return self._current

    def _popped(self) -> Iterator[bytes]:
        """The oldest that wait: few large writes keep up with a flood where many small ones do not."""
        size = 0
        while self._waiting and size < _WRITE_BYTES:
            size += len(self._waiting[0])
            yield self._waiting.popleft()

    def _tell_where(self) -> None:
        if self._file.path != self._asked:
            self._log.warning(f"another server writes {self._asked}; the log of this one is {self._file.path}")
            self._asked = self._file.path

    def _tell_recovery(self) -> None:
        if self._retry_at is not None:
            self._retry_at = None
            self._log.info(f"{self._file.path} is written again")

    def _tell_failure(self, error: Exception) -> None:
        first, self._retry_at = self._retry_at is None, time.monotonic() + self._retry_seconds
        if first:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            self._log.warning(
                f"{self._file.path} cannot be written by uid {os.getuid()}: {reason}; the server goes on, and every "
                f"{self._retry_seconds:g} s this is tried again"
            )


class Lines:
    """One stream's pieces put together to lines, so that two streams never meet within one."""

    def __init__(self, take: Callable[[bytes], None], longest: int) -> None:
        self._take = take
        self._longest = longest
        self._rest: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        end = piece.rfind(b"\n") + 1
        if end:
            self._rest.append(piece[:end])
            lines, self._rest, self._size, piece = b"".join(self._rest), [], 0, piece[end:]
            self._take(lines)
        if piece:
            self._rest.append(piece)
            self._size += len(piece)
        if self._size > self._longest:
            self.end()

    def end(self) -> None:
        """End a line that was left open."""
        if self._rest:
            lines, self._rest, self._size = b"".join([*self._rest, b"\n"]), [], 0
            self._take(lines)


def copy_of(runtime: Mapping[str, Any]) -> LogCopy | None:
    """The copy that a plan's `runtime` asks for; None where it asks for none."""
    if not runtime.get("log_file"):
        return None
    file = LogFile(runtime["log_file"], limit_bytes=runtime["log_file_bytes"], count=runtime["log_file_count"])
    return LogCopy(file, Log("log", level=runtime["log_level"], style=runtime["log_format"]))
