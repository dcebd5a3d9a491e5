"""supervisord's event listener protocol: bytes from stdin in, `Event` values out, and the answers to them.

See http://supervisord.org/events.html. Two surprises of supervisor 4: `len` counts characters of the payload though
it is written as UTF-8 (supervisor/process.py, _eventEnvelope), and a log chunk that was cut inside a character comes
as the text `Undecodable: b'...'` (supervisor/events.py). Knows nothing of what the events mean.
"""

from __future__ import annotations

import ast
import codecs
from collections.abc import Iterator
from dataclasses import dataclass

READY = b"READY\n"
DONE = b"RESULT 2\nOK"
_CUT = "Undecodable: b"
MISSED = "the watch was started again meanwhile; what the engine said before that is in the log only"


@dataclass(frozen=True, kw_only=True)
class Event:
    """`name` such as PROCESS_STATE_EXITED, the payload's header, and the data of a log event."""

    name: str
    program: str
    pid: int
    data: str = ""


class Reader:
    """Collects bytes and gives out every event that is complete."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""

    def feed(self, data: bytes) -> Iterator[Event]:
        self._text += self._decoder.decode(data)
        while "\n" in self._text:
            line, _, rest = self._text.partition("\n")
            header = _pairs(line)
            length = int(header.get("len", 0))
            if len(rest) < length:
                return
            self._text = rest[length:]
            yield _event(header.get("eventname", ""), rest[:length])


def _event(name: str, payload: str) -> Event:
    first, _, data = payload.partition("\n")
    header = _pairs(first)
    pid = header.get("pid", "0")
    return Event(
        name=name, program=header.get("processname", ""), pid=int(pid) if pid.isdigit() else 0, data=_uncut(data)
    )


def _uncut(data: str) -> str:
    if data.startswith(_CUT):
        try:
            return bytes(ast.literal_eval(data.partition(": ")[2])).decode("utf-8", "replace")
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            pass  # an engine may print such a text itself
    return data


def _pairs(line: str) -> dict[str, str]:
    return dict(pair.partition(":")[::2] for pair in line.split())


class Lines:
    """The last lines of a stream that arrives in pieces. Where its beginning was `missed`, they say so first."""

    def __init__(self, most: int = 200, *, missed: bool = False) -> None:
        self._most = most
        self._missed = missed
        self._lines: list[str] = []
        self._rest = ""

    def add(self, data: str) -> list[str]:
        """The lines that this piece completes."""
        *lines, self._rest = (self._rest + data).replace("\r", "\n").split("\n")
        self._rest = self._rest[-65536:]
        self._lines = (self._lines + lines)[-self._most :]
        return lines

    def last(self) -> list[str]:
        found = [line for line in (*self._lines, self._rest) if line]
        return [MISSED, *found] if self._missed else found

    def clear(self) -> None:
        self._lines, self._rest, self._missed = [], "", False
