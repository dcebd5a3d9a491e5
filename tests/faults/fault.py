"""What a fault is: how it comes about, and how it must end. Rows of these in; what a test found is held against them.

The rows are data that the tests are made of and `docs/faults.md` is written from: nothing on that page that no test
asserts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# planning: before any engine is started; start: until it is ready; serving: afterwards; stopping: once a stop was asked
When = Literal["planning", "start", "serving", "stopping"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to break.

    `what` is told to users, `about` is the part of the page it stands in, `injected` says how the test does it. It ends
    with exit code `code` and `error_class` in the last words; where `code` is None it serves on, or serves again, and
    `error_class` is that of the attempt that failed ("" where none did). `attempts` are the starts of an engine, the
    first included; of a fault while serving, those that it costs beyond the one that runs. `gives_up` are the rungs
    that were taken. `says` and `remedy` are pieces of the message and of the hint.
    """

    id: str
    what: str
    injected: str
    when: When
    test: str  # the file that injects it, below tests/
    about: str = ""
    error_class: str = ""
    code: int | None = None
    attempts: int = 0
    gives_up: tuple[str, ...] = ()
    says: str = ""
    remedy: str = ""


def assert_ended(fault: Fault, code: int, words: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]] = ()) -> None:
    """That it ended as the row says: the exit code, the last words, and attempts.json's attempts."""
    assert (code, words["class"], words["code"]) == (fault.code, fault.error_class, fault.code), words
    assert_says(fault, words)
    assert [attempt["number"] for attempt in attempts] == list(range(1, fault.attempts + 1)), attempts
    assert_gave_up(fault, attempts)


def assert_serves_again(fault: Fault, attempts: Sequence[Mapping[str, Any]]) -> None:
    """That it serves after as many attempts as the row says; of a fault while serving, give those since then, from the
    one that ended.
    """
    before = 1 if fault.when == "serving" else 0
    assert fault.code is None
    assert len(attempts) == fault.attempts + before, attempts
    assert attempts[-1]["ended"] is None, attempts
    for attempt in attempts[:-1]:
        assert attempt["failure"]["class"] == fault.error_class, attempt
        assert_says(fault, attempt["failure"])
    assert_gave_up(fault, attempts)


def assert_says(fault: Fault, words: Mapping[str, Any]) -> None:
    assert fault.says in words["message"], words
    assert fault.remedy in words["hint"], words


def assert_gave_up(fault: Fault, attempts: Sequence[Mapping[str, Any]]) -> None:
    assert (list(attempts[-1]["without"]) if attempts else []) == list(fault.gives_up), attempts
