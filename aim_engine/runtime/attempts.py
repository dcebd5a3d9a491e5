"""What comes after a failure: the attempts so far and the failure in, another attempt after a while, or none, out.

Pure; times are seconds on one clock. Knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.errors import EngineStartTimeoutError
from aim_engine.runtime.failures import Failure

# Ready for this long, an engine has shown that it can serve: the failures before do not count any more.
FORGIVEN_AFTER_SECONDS = 600.0
_DELAYS_SECONDS = (1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class Next:
    """`delay_seconds` until the next attempt, or None for giving up; `retries_used` counts that attempt."""

    delay_seconds: float | None
    retries_used: int


def decide(failure: Failure, *, retries_used: int, max_retries: int, ready_seconds: float, previous: str = "") -> Next:
    """Permanent classes take exactly one attempt; a start that took too long is worth one more, a crash a few.

    `previous` is what the attempt before said. An exception that comes twice in the same words will come again.
    """
    if failure.cause and failure.error.message == previous and ready_seconds == 0:
        return Next(delay_seconds=None, retries_used=retries_used)
    used = 0 if ready_seconds >= FORGIVEN_AFTER_SECONDS else retries_used
    allowed = min(max_retries, 1) if isinstance(failure.error, EngineStartTimeoutError) else max_retries
    if failure.permanent or used >= allowed:
        return Next(delay_seconds=None, retries_used=used)
    return Next(delay_seconds=_DELAYS_SECONDS[min(used, len(_DELAYS_SECONDS) - 1)], retries_used=used + 1)
