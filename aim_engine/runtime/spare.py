"""A supervisord that waits: started first thing, while the plan is still being made, it has its modules ready when the
plan is. In: the word to go, with the state folder; out: supervisord's run. Without the word it ends silently.

A start is a chain of Python programs; this takes the longest import out of it, on the machine's other core.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from aim_engine.errors import InternalError
from aim_engine.runtime import processes
from aim_engine.runtime.signals import HELD

# -I: no PYTHON* variable and no folder of the user's; -S: no `site`, see __main__.py
INTERPRETER = [sys.executable, "-I", "-S"]
PROGRAMS = f"{__file__.rpartition('/')[0]}/__main__.py"


@dataclass(frozen=True, kw_only=True)
class Spare:
    """The waiting process: `go` is where to write the word, `engine` and `programs` the ends of the pipes that its
    children's output will come from.
    """

    pid: int
    go: int
    engine: int
    programs: int

    def as_arguments(self) -> list[str]:
        """For the command line of the parent that takes it over; also makes its descriptors survive the exec."""
        for descriptor in (self.go, self.engine, self.programs):
            os.set_inheritable(descriptor, True)
        return [str(number) for number in (self.pid, self.go, self.engine, self.programs)]

    @staticmethod
    def from_arguments(arguments: list[str]) -> Spare:
        """What `as_arguments` gave; the descriptors are private again."""
        pid, go, engine, programs = (int(argument) for argument in arguments)
        for descriptor in (go, engine, programs):
            os.set_inheritable(descriptor, False)
        return Spare(pid=pid, go=go, engine=engine, programs=programs)

    def start(self, state_dir: str) -> None:
        """Give the word."""
        with suppress(BrokenPipeError):  # then it is dead, which is seen where its end is waited for
            os.write(self.go, os.fsencode(state_dir))
        os.close(self.go)


def make_spare() -> Spare:
    """Start one, in a session of its own: a terminal's ^C reaches only the parent."""
    folder = _supervisor_folder()
    (go, word), (engine, engine_end), (programs, programs_end) = os.pipe(), os.pipe(), os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(parent, folder, go, (engine_end, programs_end))
    for descriptor in (go, engine_end, programs_end):
        os.close(descriptor)
    return Spare(pid=pid, go=word, engine=engine, programs=programs)


def wait_for_word(go: int) -> str | None:
    """The state folder to start with, or None when there is nothing to start."""
    said = b""
    while data := os.read(go, 4096):
        said += data
    os.close(go)
    return os.fsdecode(said) or None


def _become(parent: int, folder: str, go: int, outputs: tuple[int, int]) -> NoReturn:
    try:
        os.setsid()
        os.umask(0o022)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in zip((null, *outputs), (0, 1, 2), strict=True):
            os.dup2(source, target)
        os.set_inheritable(go, True)
        processes.die_with_parent(parent, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        os.execve(  # noqa: S606 - no shell, by design
            sys.executable, [*INTERPRETER, PROGRAMS, "supervisord", folder, str(go)], dict(os.environ)
        )
    finally:
        os._exit(127)


def _supervisor_folder() -> str:
    from importlib.util import find_spec

    found = find_spec("supervisor")
    if found is None or not found.submodule_search_locations:
        raise InternalError("supervisor is not installed", hint="install aim-engine with its dependencies")
    return os.path.dirname(found.submodule_search_locations[0])  # noqa: PTH120
