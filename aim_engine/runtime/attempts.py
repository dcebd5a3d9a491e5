"""What comes after a failure: the attempts so far and the failure in, another attempt after a while, perhaps without
something, or none, out.

Pure; times are seconds on one clock. Knows no engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aim_engine.errors import EngineStartTimeoutError
from aim_engine.runtime.contract import Rung
from aim_engine.runtime.failures import CRASH, Failure

# Ready for this long, an engine has shown that it can serve: the failures before do not count any more.
FORGIVEN_AFTER_SECONDS = 600.0
_DELAYS_SECONDS = (1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class Next:
    """`delay_seconds` until the next attempt, or None for giving up; `retries_used` counts that attempt, and `rung` is
    what it does without, beside what was given up before.
    """

    delay_seconds: float | None
    retries_used: int
    rung: Rung | None = None


def decide(
    failure: Failure,
    *,
    retries_used: int,
    max_retries: int,
    ready_seconds: float,
    previous: str = "",
    ladder: Sequence[Rung] = (),
    taken: Sequence[str] = (),
    seconds_left: float = math.inf,
) -> Next:
    """Permanent classes take exactly one attempt unless something may be given up for them (`ladder`, without what was
    `taken`); a start that took too long is worth one more, a crash a few, and then the ladder's.

    `previous` is what the attempt before said. An exception that comes twice in the same words will come again.
    `seconds_left` is what remains for all attempts together.
    """
    used = 0 if ready_seconds >= FORGIVEN_AFTER_SECONDS else retries_used
    rung = next((one for one in ladder if failure.kind in one.failures and one.name not in taken), None)
    if seconds_left <= 0:
        return Next(delay_seconds=None, retries_used=used)
    repeated = bool(failure.cause) and failure.error.message == previous and ready_seconds == 0
    allowed = min(max_retries, 1) if isinstance(failure.error, EngineStartTimeoutError) else max_retries
    again = not (failure.permanent or repeated or used >= allowed)
    if rung is not None and (failure.kind != CRASH or not again):
        return Next(delay_seconds=_DELAYS_SECONDS[0], retries_used=used, rung=rung)
    if not again:
        return Next(delay_seconds=None, retries_used=used)
    delay = _DELAYS_SECONDS[min(used, len(_DELAYS_SECONDS) - 1)]
    # somebody is waiting for an engine that has served; only one that ends again and again soon after has to pause
    at_once = ready_seconds > (delay if used else 0)
    return Next(delay_seconds=0.0 if at_once else delay, retries_used=used + 1)


def in_words(step: Next, most: int) -> str:
    """What is done next, of `most` retries without giving anything up."""
    when = f"in {step.delay_seconds:g} s" if step.delay_seconds else "now"
    what = f"giving up {step.rung.gives_up}" if step.rung else f"(retry {step.retries_used} of {most})"
    return f"trying again {when}{', ' if step.rung else ' '}{what}"


def staying_up(hint: str, health_port: int) -> str:
    """Instead of an end, with AIM_KEEP_ALIVE; the last words come when a stop is asked for."""
    remedy = f"; {hint}" if hint else ""
    return f"staying up as AIM_KEEP_ALIVE asks: http://localhost:{health_port}/status tells more{remedy}"
