"""Commands of AIM Engine as processes against an engine of the tests' own, and what they leave there."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.image.private_engine import PrivateEngine

SECRET = "s3cret-of-the-private-engine"


@dataclass
class Command:
    """A command as a process, and what it has said on stderr so far."""

    process: subprocess.Popen[str]
    said: list[str]

    def until(self, words: str, seconds: float = 40) -> None:
        """Read stderr up to a line with these words."""
        assert self.process.stderr
        deadline = time.monotonic() + seconds
        while words not in "".join(self.said):
            line = self.process.stderr.readline()
            assert line, f"it ended without {words!r}: {''.join(self.said)}"
            assert time.monotonic() < deadline
            self.said.append(line)

    def end(self, seconds: float = 60) -> tuple[int, str, str]:
        """Its exit code, stdout and stderr."""
        too_late = threading.Timer(seconds, self.process.kill)
        too_late.start()
        # not communicate, which forgets what readline has read ahead
        err, out = (stream.read() if stream else "" for stream in (self.process.stderr, self.process.stdout))
        code = self.process.wait()
        too_late.cancel()
        text = "".join(self.said) + err
        assert "Traceback" not in text, text
        assert SECRET not in out + text
        return code, out, text


Start = Callable[..., Command]


def names(engine: PrivateEngine) -> list[str]:
    return sorted(engine.docker("ps", "--all", "--format", "{{.Names}}").stdout.split())


def secrets(engine: PrivateEngine) -> list[Path]:
    return [path for path in engine.state.rglob("*") if path.is_file()]


def assert_nothing_is_left(engine: PrivateEngine) -> None:
    assert names(engine) == []
    assert secrets(engine) == []


def done(aim: Start, *words: str, code: int = 0, **options: Any) -> tuple[str, str]:
    found, out, err = aim(*words, **options).end()
    assert found == code, out + err
    return out, err


def last_words(err: str) -> dict[str, Any]:
    found = json.loads(err.strip().splitlines()[-1])
    assert isinstance(found, dict)
    return found
