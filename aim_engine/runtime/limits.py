"""When a running server is to be ended: how it stands and what was agreed in, the reason out, or None.

Pure; times are seconds on one clock. Ends nothing, and asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.errors import AimError, EngineCrashedError, EngineHungError, EngineStartTimeoutError
from aim_engine.runtime.contract import Contract

_ON_HOST = "look at what else this machine has to do, and whether it had memory left (top, dmesg)"
_ON_GPU = "look at the driver's log (dmesg)"
_STARTS_IN_ALL = 3.0  # the time of so many starts is what all attempts may take together


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The newest attempt at one moment. `seconds` is its age without what was frozen; `said`, `hung` and `lost`
    (another node, without which this one is of no use) are the sidecar's.
    """

    seconds: float
    was_ready: bool
    hung: bool = False
    lost: bool = False
    said: str = ""


def over(standing: Standing, contract: Contract) -> AimError | None:
    """Why it is to be ended now."""
    if standing.lost:
        return EngineCrashedError(standing.said or "another node is gone", hint="look at the log of that node")
    if not standing.was_ready:
        return _too_late(standing, contract)
    if standing.hung:
        return EngineHungError(
            standing.said or "the engine hangs", hint=_ON_HOST if contract.computes_on_host else _ON_GPU
        )
    return None


def _too_late(standing: Standing, contract: Contract) -> AimError | None:
    limit = contract.start_timeout_seconds
    if standing.seconds <= limit:
        return None
    return EngineStartTimeoutError(
        f"the engine was not ready after {limit:g} s: {standing.said or 'it said nothing'}",
        hint="set AIM_START_TIMEOUT higher if the model is large or the disk slow",
    )


def seconds_left(spent: float, contract: Contract) -> float:
    """Of the time for all the attempts that have not been ready: a few starts that end late, many that end soon."""
    return _STARTS_IN_ALL * contract.start_timeout_seconds - spent
