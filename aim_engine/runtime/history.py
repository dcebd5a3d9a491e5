"""attempts.json: every start of the server and how it ended, kept so that a new watch knows what the old one knew.

In: servers that began and failures that ended them. Out: the same as a file. Decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aim_engine.runtime import state as files
from aim_engine.runtime.failures import Failure
from aim_engine.runtime.state import State

_MOST_EARLIER, _LONGEST = 4, 300  # attempts that the last words name, and characters of what each said


class History:
    """The attempts of one run. `retry_at` is a moment of the monotonic clock, or None when no attempt is pending."""

    def __init__(
        self, state: State, *, clock: Callable[[], float] = time.monotonic, given_up: Sequence[str] = ()
    ) -> None:
        self._state = state
        self._clock = clock
        known = state.read(files.ATTEMPTS) or {}
        self._attempts: list[dict[str, Any]] = known.get("attempts", [])
        self.retries_used: int = known.get("retries_used", 0)
        self.retry_at: float | None = known.get("retry_at")
        self.rungs: list[str] = known.get("rungs", list(given_up))  # what is done without, in that order

    @property
    def pid(self) -> int:
        """Of the newest attempt; it is its group's id too."""
        return int(self._attempts[-1]["pid"]) if self._attempts else 0

    @property
    def previous_message(self) -> str:
        """Why the attempt before the newest failed, or ""."""
        failure = self._attempts[-2]["failure"] if len(self._attempts) > 1 else None
        return str(failure["message"]) if failure else ""

    @property
    def goes_on(self) -> bool:
        """Whether the newest attempt has not ended, as far as is known."""
        return bool(self._attempts) and self._attempts[-1]["ended"] is None

    def seconds(self) -> float:
        """How long the newest attempt has taken, without the time in which everything was frozen."""
        if not self._attempts:
            return 0.0
        newest = self._attempts[-1]
        return self._clock() - float(newest["monotonic"]) - float(newest["frozen_seconds"])

    @property
    def spent_seconds(self) -> float:
        """From the first attempt until now."""
        return self._clock() - float(self._attempts[0]["monotonic"]) if self._attempts else 0.0

    def frozen(self, seconds: float) -> None:
        """The newest attempt, if it goes on, could do nothing for so long."""
        if seconds > 0 and self._attempts and self._attempts[-1]["ended"] is None:
            self._attempts[-1]["frozen_seconds"] += seconds
            self.save()

    @property
    def oom_kills(self) -> int:
        """What the kernel had counted when the newest attempt began."""
        return int(self._attempts[-1]["oom_kills"]) if self._attempts else 0

    def begin(self, pid: int, *, oom_kills: int = 0) -> None:
        """A server runs, or ran; nothing changes when it is known already."""
        if self.goes_on:
            return
        self._attempts.append(
            {
                "number": len(self._attempts) + 1,
                "pid": pid,
                "started": time.time(),
                "monotonic": self._clock(),
                "frozen_seconds": 0.0,
                "oom_kills": oom_kills,
                "ended": None,
                "failure": None,
                "without": list(self.rungs),
            }
        )
        self.save()

    def end(self, failure: Failure) -> int:
        """The newest attempt failed; its number."""
        self._attempts[-1].update(ended=time.time(), failure=failure.error.as_json())
        return int(self._attempts[-1]["number"])

    @property
    def newest(self) -> Mapping[str, Any]:
        """The newest attempt, or nothing."""
        return self._attempts[-1] if self._attempts else {}

    @property
    def earlier(self) -> list[dict[str, Any]]:
        """How the last few attempts before the newest ended: `{number, class, message}` of each."""
        ended = [one for one in self._attempts[:-1] if one["failure"]]
        return [
            {"number": one["number"], "class": one["failure"]["class"], "message": one["failure"]["message"][:_LONGEST]}
            for one in ended[-_MOST_EARLIER:]
        ]

    def tell_evidence(self, path: str | None) -> None:
        """Where it is kept what was seen of the newest attempt's failure."""
        if self._attempts and path is not None:
            self._attempts[-1]["evidence"] = path
            self.save()

    def save(self) -> None:
        self._state.write(
            files.ATTEMPTS,
            {
                "attempts": self._attempts,
                "retries_used": self.retries_used,
                "retry_at": self.retry_at,
                "rungs": self.rungs,
            },
        )
