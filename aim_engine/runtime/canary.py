"""The canary: one token asked of an engine that has nothing to do, or of which that is not sure. In: a word to ask;
out: what came of it, and how often.

It runs in a thread: an engine that hangs does not answer. When to ask, and what silence means, is for `health`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.backends.counters import COPY_HEADER
from aim_engine.runtime.canary_times import canary_seconds
from aim_engine.runtime.contract import Contract
from aim_engine.runtime.poller import ask, error_text

ANSWERED, REFUSED, SILENT = "answered", "refused", "silent"
# By this and this run's value the guard knows that nobody misses the answer, and leaves it out of its receipt.
HEADER = "X-AIM-Canary"


@dataclass
class _Question:
    """One that was sent to `server` at `since`, to its `copy` if it has several, and what came of it."""

    server: tuple[int, int]
    since: float
    copy: str = ""
    outcome: str | None = None
    words: str = ""


class Canary:
    """One at a time. Times are the caller's."""

    def __init__(self, contract: Contract, key: str | None, mark: str = "") -> None:
        self._contract = contract
        self._key = key
        self._mark = mark  # by which the guard knows it
        self._seconds = canary_seconds(contract.hang_timeout_seconds)
        self._question: _Question | None = None
        self._counts = dict.fromkeys((ANSWERED, REFUSED, SILENT), 0)
        self._last = ""

    def send(self, server: tuple[int, int], at: float, copy: str = "") -> None:
        """Ask, in the same words as the probe that a start ends with; `copy` is the number of the one to ask."""
        self._question = _Question(server=server, since=at, copy=copy)
        threading.Thread(target=self._ask, args=(self._question,), daemon=True).start()

    def since(self, server: tuple[int, int] | None) -> float | None:
        """When the one was sent that is waited for; what was asked of another server is waited for no more."""
        if self._question is not None and self._question.server != server:
            self._question = None
        return self._question.since if self._question is not None else None

    @property
    def copy(self) -> str:
        """Of the one that is waited for; "" where the server may choose."""
        return self._question.copy if self._question is not None else ""

    def take(self) -> str | None:
        """What came of the one that was waited for, once."""
        question = self._question
        if question is None or question.outcome is None:
            return None
        self._question, self._last = None, question.words
        self._counts[question.outcome] += 1
        return question.outcome

    def _ask(self, question: _Question) -> None:
        command = self._contract.command
        headers = {HEADER: self._mark, **({COPY_HEADER: question.copy} if question.copy else {})}
        answer = ask(command.probe_url, key=self._key, seconds=self._seconds, body=command.probe_body, headers=headers)
        question.words = "" if answer.status == 200 else "no answer" if answer.silent else error_text(answer)
        question.outcome = ANSWERED if answer.status == 200 else SILENT if answer.silent else REFUSED

    @property
    def counts(self) -> Mapping[str, int]:
        """How many were answered, refused and met with silence."""
        return dict(self._counts)

    def as_json(self) -> dict[str, Any]:
        """For /status."""
        return {"every_seconds": self._contract.canary_every_seconds, "within_seconds": self._seconds, **self._counts,
                "last_error": self._last}  # fmt: skip
