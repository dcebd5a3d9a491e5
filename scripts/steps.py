"""The steps of a long job: a command comes in, its exit status goes out, its output goes to a log, and a line says what
goes on whenever more than two seconds have passed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from aim_engine.errors import AimError, CacheError, DockerError

ROOT = Path(__file__).resolve().parent.parent
QUIET_SECONDS = 2.0  # a step that is over by then needs no line
PROGRESS_SECONDS = 10.0  # between the later lines of one step


class Steps:
    """Runs commands one after the other, or some at once; `name` begins each line."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")

    def say(self, text: str) -> None:
        print(f"{self.name}: {text}", file=sys.stderr, flush=True)

    def run(
        self, text: str, command: Sequence[str], *, follow: str = "", first_line_seconds: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:  # fmt: skip
        """Run a command in the checkout; end it if its first line has not come within `first_line_seconds`. Lines of
        its output that begin with `follow` are shown while it takes its time.
        """
        started = time.monotonic()
        with self.log.open("ab") as log:
            log.write(f"\n== {text}\n".encode())
        try:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True, errors="replace")  # fmt: skip
        except OSError as error:
            raise DockerError(f"{text}: {command[0]} cannot be run: {error.strerror}", hint="install it") from None
        timer = threading.Timer(first_line_seconds, process.kill) if first_line_seconds else None
        if timer:
            timer.start()
        with process:
            try:
                self._read(process, text, follow, timer)
            except BaseException:
                process.terminate()
                raise
            finally:
                if timer:
                    timer.cancel()
        status = process.returncode
        if status != 0 or time.monotonic() - started >= QUIET_SECONDS:
            result = "" if status == 0 else "no success after "
            self.say(f"{text}: {result}{time.monotonic() - started:.0f} s")
        return status

    def _read(self, process: subprocess.Popen[str], text: str, follow: str, timer: threading.Timer | None) -> None:
        assert process.stdout
        started = time.monotonic()
        due = started + QUIET_SECONDS
        with self.log.open("a") as log:
            for line in process.stdout:
                if timer:
                    timer.cancel()
                log.write(line)
                log.flush()
                now = time.monotonic()
                if now >= due and line.startswith(follow) and line.strip():
                    due = now + PROGRESS_SECONDS
                    self.say(f"{text}: {now - started:.0f} s: {line.strip()[:90]}")

    def tail(self, lines: int) -> str:
        return "\n".join(self.log.read_text(errors="replace").rstrip().splitlines()[-lines:])

    def failure(self, text: str, hint: str) -> AimError:
        """The error for a step that failed, from what the log ends with."""
        tail = self.tail(15)
        print(tail, file=sys.stderr)
        if "no space left on device" in tail.lower():
            return CacheError(f"{text}: the disk is full", hint="free some space; docker system prune may help")
        return DockerError(f"{text} failed", hint=f"{hint}; the whole log is {self.log}")
