"""Where the time of a start goes: an engine's log with times comes in, seconds for each phase go out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

EXEC = "to the server's exec"
ANSWER = "the API's own set-up, to the first answer"
# A phase ends with the first line that has these words (vLLM 0.32). One that is not said becomes part of the next.
ENDS = (
    ("imports of the API server", "non-default args:"),
    ("model inspection", "Resolved architecture:"),
    ("imports of the engine process", "Initializing a V1 LLM engine"),
    ("model load", "Loading weights took"),
    ("KV cache, warm-up or compilation", "init engine (profile"),
)


TIMED_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\S+) (.*)")


def log_lines(text: str) -> list[tuple[float, str]]:
    """The lines of docker logs --timestamps. A progress bar's later states have no time of their own and no meaning."""
    found = (TIMED_LINE.fullmatch(line) for line in text.splitlines())
    return [(seconds_of(match[1]), match[2]) for match in found if match]


def seconds_of(text: str) -> float:
    """2026-11-21T20:43:16.093176808Z, as Docker writes it, since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def phases(log: Iterable[tuple[float, str]], *, start: float, executed: float, answered: float) -> dict[str, float]:
    """Seconds of each phase, in order; together they are the whole start."""
    lines = list(log)
    ends = [(EXEC, executed)]
    for name, words in ENDS:
        when = next((when for when, text in lines if words in text), None)
        if when is not None and when >= ends[-1][1]:
            ends.append((name, when))
    ends.append((ANSWER, answered))
    found, before = {}, start
    for name, end in ends:
        found[name] = end - before
        before = end
    return found
