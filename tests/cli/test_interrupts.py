"""Signals raised in this process: the first one raises, the others are told why nothing happens."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from aim_engine.cli.interrupts import interrupted_once


def interrupt(tell: Callable[[str], None], first: signal.Signals, *later: signal.Signals) -> None:
    """The later ones come while the command cleans up."""
    with interrupted_once(tell):
        try:
            signal.raise_signal(first)
        finally:
            for one in later:
                signal.raise_signal(one)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)]
)
def test_the_first_raises_and_later_ones_do_not(number: signal.Signals, error: type[BaseException]) -> None:
    told: list[str] = []
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(error) as caught:
        interrupt(told.append, number, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    assert len(told) == 3
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 128 + number
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_what_is_ignored_from_outside_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupted_once(lambda _: None):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_one_that_interrupts_a_line_being_written() -> None:
    """Python refuses to write to a stream from within a write to it."""

    def refuse(_: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    with pytest.raises(SystemExit):
        interrupt(refuse, signal.SIGTERM, signal.SIGTERM)
