"""Signals that end a command which takes back what it made: the first one raises, and no later one cuts the taking back
short. Knows nothing of what is made.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# ^C, a stop, and the terminal that was closed
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupted_once(tell: Callable[[str], None]) -> Iterator[None]:
    """The first signal raises KeyboardInterrupt or SystemExit (128 + its number); whoever sends more is told why
    nothing happens. One that is ignored from outside (nohup) stays so.
    """
    came: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            with suppress(RuntimeError):  # it interrupted a line that was being written
                tell("what was created is being removed; that ends by itself")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
