"""What each front end of a server tells of itself, in a file of its own: the requests that it has open, and what became
of them since a stop. The guard writes it, in the engine's process; sidecar and boot read it.

A server may have several front ends behind one port (vLLM's --api-server-count, by default as many as copies of the
model). Which of them answers is chance, so that one which stands still is covered by the others, and none knows what
the others have open. Standard library only, and nothing of ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

_PREFIX, _SUFFIX = "front-end-", ".json"


class Told(NamedTuple):
    """Of one front end: `load` its open requests, `working` those of them that are somebody's work. From a stop on
    `finished` counts the work that was answered whole, `cut` what was not although its client stayed, and `refused`
    what came too late.
    """

    stopping: bool = False
    load: int = 0
    working: int = 0
    finished: int = 0
    refused: int = 0
    cut: int = 0


class FrontEnd(NamedTuple):
    """A process, what it told last, and a number that changes as long as it goes on telling, which needs a disk that
    can be written.
    """

    pid: int
    beat: int
    told: Told


class Teller:
    """Writes the file of this process; none where `folder` is None."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._last: tuple[int, Told] | None = None

    def tell(self, told: Told) -> None:
        """The file as it is now, replaced in one step. A disk that is full must not cost an answer."""
        if not self._folder:
            return
        path = f"{self._folder}/{_PREFIX}{os.getpid()}{_SUFFIX}"
        try:
            if self._last == (os.getpid(), told):
                os.utime(path)
                return
        except OSError:  # somebody removed the state folder of a running server
            pass
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - slim
            with open(f"{path}.new", "w", encoding="ascii") as file:  # noqa: PTH123 - slim
                json.dump(told._asdict(), file)
            os.replace(f"{path}.new", path)  # noqa: PTH105 - slim
            self._last = os.getpid(), told
        except OSError:
            self._last = None
            with suppress(OSError):
                os.utime(path)


def read_front_ends(folder: str | None) -> list[FrontEnd]:
    """All that have told anything in this folder since `forget`; what cannot be read is left out."""
    found = [_read(f"{folder}/{name}", name[len(_PREFIX) : -len(_SUFFIX)]) for name in _names(folder)]
    return [one for one in found if one is not None]


def forget(folder: str) -> None:
    """A new server begins: what others told is of processes that are gone, whose pids may be somebody else's."""
    for name in _names(folder):
        with suppress(OSError):
            os.unlink(f"{folder}/{name}")  # noqa: PTH108 - slim


def _names(folder: str | None) -> list[str]:
    try:
        names = os.listdir(folder) if folder else []  # noqa: PTH208 - slim
    except OSError:
        return []
    return [name for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]


def living(front_ends: Iterable[FrontEnd]) -> list[FrontEnd]:
    """Those whose process there is."""
    return [one for one in front_ends if os.path.exists(f"/proc/{one.pid}")]  # noqa: PTH110 - slim


def _read(path: str, pid: str) -> FrontEnd | None:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - slim
            beat = os.fstat(file.fileno()).st_mtime_ns
            numbers = json.load(file)
        return FrontEnd(pid=int(pid), beat=beat, told=Told(**numbers))
    except (OSError, ValueError, TypeError):
        return None
