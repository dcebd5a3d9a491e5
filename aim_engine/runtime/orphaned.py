"""When the parent was killed: nobody is left to clean up after the run. In: the state folder, and a process of the run
that still lives; out: no other process of it, no shared memory, and last words.

The parent itself does all this where it lives (`ending`).
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import NoReturn

from aim_engine.errors import EngineCrashedError
from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.ending import remove_folder
from aim_engine.runtime.processes import Process
from aim_engine.runtime.remains import Remains
from aim_engine.runtime.state import State

# A parent that was killed together with supervisord may die a moment later. One that lives ends us sooner than that.
_DYING_SECONDS = 3.0


def end_the_rest(state: State) -> None:
    """Where the run's parent is gone, end every process of our session but ourselves, whoever its parent is now, and
    remove what they leave.

    supervisord leads a session of its own (`spare`), and a session's id is not given again while a member lives.
    """
    parent = processes.identify(int((state.read(files.RUN) or {}).get("pid", 0)))
    deadline = time.monotonic() + _DYING_SECONDS
    while processes.is_alive(parent):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
    Remains(state, os.getpid()).end(_others)
    with _OwnFolder(state) as ours:
        if ours:
            _tidy(state)


def leave(state: State) -> NoReturn:
    """The watch's answer to SIGTERM. It is the first that supervisord ends: what it stops next it may have to KILL, and
    with that goes Python's tracker, which alone knew the names of the shared memory.
    """
    try:
        Remains(state, os.getpid()).note(_others())
    finally:
        os._exit(0)


def _others() -> list[Process]:
    """What has left the session descends from a member that has not: all the others are found by that."""
    there, session = processes.everyone(), os.getsid(0)
    ours = {pid for pid, one in there.items() if one.session == session}
    while more := {pid for pid, one in there.items() if one.parent in ours and pid not in ours}:
        ours |= more
    return [there[pid] for pid in ours if pid != os.getpid()]


def _tidy(state: State) -> None:
    if not state.exists(files.WORDS):
        words = EngineCrashedError("the server's parent was killed, so everything was ended", hint="start again")
        with suppress(OSError):
            state.write(files.WORDS, words.as_json())
    state.remove(files.SOCKET, files.DAEMON_PID, files.SERVER, files.READY)
    remove_folder(state.path(files.TEMPORARY))


class _OwnFolder:
    """Whether the state folder is still this run's: its lock went with the parent, and another run may have it."""

    def __init__(self, state: State) -> None:
        self._path = state.path(files.LOCK)
        self._descriptor: int | None = None

    def __enter__(self) -> bool:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def __exit__(self, *reason: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
