"""The state folder: small files by which boot, serve, watch and sidecar tell each other what they did.

In: a folder and a name. Out: JSON values, or None where nothing (readable) is there yet. Every file has one writer,
and is replaced in one step, so that a reader never sees half of it. What the values mean is not known here.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

PLAN = "plan.json"
RUN = "run.json"  # boot: this run's parent, and by what the guard knows the canaries
SERVER = "server.pid"  # serve: pid, which is the group's id too, and when it started
READY = "ready.json"  # sidecar: the server that answered the probe, and since when
HEALTH = "health.json"  # sidecar: the verdict
PROGRESS = "progress.json"  # watch: how far the engine says it got
ATTEMPTS = "attempts.json"  # watch: every start and how it ended
FIGURES = "figures.json"  # watch: what the engine's log says of its memory
MEMORY = "memory.json"  # sidecar: predicted beside actual, of the server that became ready
OBSERVATIONS = "observations.json"  # sidecar: the last counts of the engine's work
SEGMENTS = "segments.json"  # watch: shared memory the server was seen to use
STOP = "stop"  # boot: an end was asked for
WORDS = "last-words.json"  # watch or boot: why it ended
TIMELINE = "timeline.jsonl"  # everybody: what happened when
CONFIG = "supervisord.conf"
SOCKET = "supervisor.sock"
DAEMON_LOG = "supervisord.log"
DAEMON_PID = "supervisord.pid"
LOCK = "lock"
TEMPORARY = "tmp"  # a folder, the engine's; boot removes it

OF_ONE_RUN = (RUN, SERVER, READY, HEALTH, PROGRESS, ATTEMPTS, FIGURES, MEMORY, OBSERVATIONS, SEGMENTS, STOP, WORDS,
              TIMELINE, SOCKET, DAEMON_LOG, DAEMON_PID)  # fmt: skip


class State:
    """The files of one run."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def write(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, ensure_ascii=False))

    def write_text(self, name: str, text: str) -> None:
        """Replace a file in one step (rename(2)); only we may read it."""
        temporary = self.path(f".{name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            descriptor = os.open(temporary, flags, 0o600)
        except FileNotFoundError:  # somebody removed the folder of a running server: it goes on in a new one
            os.makedirs(self.folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - slim
            descriptor = os.open(temporary, flags, 0o600)
        try:
            data = text.encode("utf-8", "surrogateescape")
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.rename(temporary, self.path(name))  # noqa: PTH104 - slim

    def read(self, name: str) -> Any:
        try:
            with open(self.path(name), encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - slim
                return json.load(file)
        except (OSError, ValueError):
            return None

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))  # noqa: PTH110 - slim

    def remove(self, *names: str) -> None:
        for name in names:
            with suppress(OSError):
                os.unlink(self.path(name))  # noqa: PTH108 - slim

    def record(self, **entry: Any) -> None:
        """Add a line to the timeline: `at` is the wall clock, `monotonic` the machine's clock since its boot."""
        line = json.dumps({"at": time.time(), "monotonic": time.monotonic(), **entry}) + "\n"
        try:
            descriptor = os.open(self.path(TIMELINE), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            return  # a full disk must not end a server
        try:
            os.write(descriptor, line.encode())
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def timeline(self) -> list[dict[str, Any]]:
        entries = []
        try:
            with open(self.path(TIMELINE), encoding="utf-8") as file:  # noqa: PTH123 - slim
                for line in file:
                    entries.append(json.loads(line))
        except (OSError, ValueError):
            pass
        return entries
