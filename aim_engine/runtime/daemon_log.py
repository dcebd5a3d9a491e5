"""What only supervisord's own log tells: the log's path in, how its server ended out.

Its events and its RPC say -1 for every signal (supervisor/process.py, finish); the log names it.
"""

from __future__ import annotations

import re

_EXIT_LINE = re.compile(r"exited: server \((?P<how>.+?)(?:; (?:not )?expected)?\)")


def how_it_ended(path: str) -> str:
    """The signal that ended the server last, as "killed by SIGKILL"; "" for one that ended by itself."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - slim
            found = _EXIT_LINE.findall(file.read())
    except OSError:
        return ""
    return found[-1].replace("terminated", "killed") if found and "terminated" in found[-1] else ""
