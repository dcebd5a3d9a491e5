"""Whether a start is one too many: the command that is to be run and what the state folder tells of the last in; the
error that it ended with out.

A restart policy (`docker run --restart on-failure:3`) does not know a failure that may pass from one that does not. The
state folder outlives a restart of the container, and is read before anything is started. Judges only the next half
minute: whoever starts a container again after that may have mended something that its command does not tell of.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from aim_engine.errors import AimError, error_classes
from aim_engine.runtime import state as files
from aim_engine.runtime.state import State

_SECONDS = 30.0


def ended_for_good(command: Mapping[str, Any], state: State, now: float) -> AimError | None:
    """What this very command ended with less than `_SECONDS` before `now` (seconds since 1970), if no restart helps."""
    words = state.read(files.WORDS)
    plan = state.read(files.PLAN)
    if not isinstance(words, dict) or not isinstance(plan, dict):
        return None
    kind = next((one for one in error_classes() if one.code == words.get("code") and not one.retryable), None)
    if kind is None or words.get("retryable") is not False or not _is_same(plan.get("command"), command):
        return None
    try:
        seconds = now - os.stat(state.path(files.WORDS)).st_mtime  # noqa: PTH116 - slim
    except OSError:
        return None
    if not 0 <= seconds < _SECONDS:
        return None
    why = (
        f"nothing was started: the same command ended like this {seconds:.0f} s ago, and starting it again does not "
        f"help. {_SECONDS:g} s after its end it is tried again"
    )
    details = (*map(str, words.get("details", ())), why)
    return kind(str(words.get("message", "")), hint=str(words.get("hint", "")), details=details)


def _is_same(before: Any, now: Mapping[str, Any]) -> bool:
    return bool(json.dumps(before, sort_keys=True) == json.dumps(now, sort_keys=True))
