"""What a server leaves behind: its process group and its root in; out: all of it ended, and its shared memory gone.

Shared memory is removed by name, and a name counts as ours when one of our processes was seen to use it; the names
are kept in the state folder, for processes that come later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from aim_engine.runtime import processes
from aim_engine.runtime import state as files
from aim_engine.runtime.processes import Process
from aim_engine.runtime.state import State


class Remains:
    """The remains of servers below `root`, the pid that orphans come to."""

    def __init__(self, state: State, root: int) -> None:
        self._state = state
        self._root = root

    def everything(self) -> list[Process]:
        return processes.descendants(self._root)

    def of_group(self, group: int, *, daemon: int) -> list[Process]:
        """The group's members, and orphans: what hangs on the root directly and is not `daemon`, our supervisord."""
        if (found := processes.look(daemon)) is None or found.parent != self._root:
            return []  # the root is gone: what is below it now is not ours to judge
        orphans = {process.identity for process in processes.descendants(self._root, without=(daemon,))}
        return [process for process in self.everything() if process.identity in orphans or process.group == group]

    def note(self, living: Iterable[Process]) -> None:
        """Remember the shared memory that these use."""
        known = self._known()
        seen = processes.segments_of(process.identity.pid for process in living)
        if seen - known:
            self._state.write(files.SEGMENTS, sorted(seen | known))

    def end(self, find: Callable[[], list[Process]], *, pause: Callable[[float], None] = time.sleep) -> bool:
        """End what `find` finds and remove what it used. False when a process would not end."""
        self.note(find())
        ended = processes.end_all(find, pause=pause)
        processes.remove_segments(self._known())
        return ended

    def _known(self) -> set[str]:
        return set(self._state.read(files.SEGMENTS) or ())
