"""What is kept of an engine that is about to be ended, or has just ended by itself: its processes, its last lines and
the state folder in; a folder of small files in the cache, named by time and class, out.

`AIM_CACHE_DIR/evidence/20261122T074512Z-EngineHung/`. It never fails, and takes no longer than it is given: the engine
is to be started again. Where things lie is `bundle`'s; what may never answer is asked by child processes (`witnesses`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aim_engine.errors import AimError
from aim_engine.runtime import state as files
from aim_engine.runtime.bundle import FOLDER, keep_bundle
from aim_engine.runtime.log import Log
from aim_engine.runtime.processes import Process
from aim_engine.runtime.redaction import Redaction
from aim_engine.runtime.state import State

# Of an engine that still lives: so that the restart is not late.
HUNG_SECONDS = 6.0
# Of one that is gone: no longer than the pause before the next attempt.
ENDED_SECONDS = 1.5
_GRACE_SECONDS = 1.0
_NOT_KEPT = ("candidates",)  # of the plan: why the others were not chosen has no part in this


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What happened: the failure, the attempt it ends, the engine's last lines, its processes that live."""

    error: AimError
    attempt: Mapping[str, Any]
    lines: Sequence[str]
    living: Sequence[Process] = ()


class Evidence:
    """Keeps what the failures of one run leave. `environment` tells what is secret."""

    def __init__(self, state: State, cache_dir: str, log: Log, environment: Mapping[str, str]) -> None:
        self._state = state
        self._cache_dir = cache_dir
        self._log = log
        self._redaction = Redaction(environment)

    def keep(self, scene: Scene, *, seconds: float) -> str | None:
        """Where it is kept; None where that was not possible, which the log then says."""
        kept: list[str] = []
        problem: list[str] = []
        # apart, because even a write may hang: a cache is often a network's
        keeper = threading.Thread(target=self._keep, args=(scene, seconds, kept, problem), daemon=True)
        keeper.start()
        keeper.join(seconds + _GRACE_SECONDS)
        if kept:
            self._log.info(f"what is known of this failure is kept in {kept[0]}")
            return kept[0]
        why = problem[0] if problem else f"it took longer than {seconds + _GRACE_SECONDS:g} s"
        self._log.warning(f"nothing of this failure could be kept in {self._cache_dir}/{FOLDER}: {why}")
        return None

    def redacted(self, lines: Sequence[str]) -> list[str]:
        """An engine's last lines as they may be told: the last words are read where the log is not (the sidecar's
        /status, a pod's termination message).
        """
        return [self._redaction.text(line) for line in lines]

    def _keep(self, scene: Scene, seconds: float, kept: list[str], problem: list[str]) -> None:
        try:
            texts = self._texts(scene, time.monotonic() + seconds)
            kept.append(keep_bundle(self._cache_dir, scene.error.error_class, texts))
        except OSError as error:
            problem.append(error.strerror or type(error).__name__)
        except Exception as error:  # a bug of ours must not cost the engine its restart; its text may hold anything
            problem.append(type(error).__name__)

    def _texts(self, scene: Scene, deadline: float) -> dict[str, str]:
        from aim_engine.runtime.witnesses import Gpus, stacks  # here: few runs ever need them

        gpus = Gpus()
        plan = self._state.read(files.PLAN) or {}
        values = {
            "verdict.json": self._verdict(scene),
            "counters.json": self._state.read(files.OBSERVATIONS) or [],
            "plan.json": {name: value for name, value in plan.items() if name not in _NOT_KEPT},
        }
        texts = {"log-tail.txt": "\n".join(scene.lines) + "\n"}
        if scene.living:
            texts["stacks.txt"] = stacks(scene.living, deadline)
        values["gpus.json"] = gpus.answer(deadline)
        found = {name: self._redaction.text(text) for name, text in texts.items()}
        return found | {name: _json(self._redaction.value(value)) for name, value in values.items()}

    def _verdict(self, scene: Scene) -> dict[str, Any]:
        attempt = {name: scene.attempt.get(name) for name in ("number", "pid", "started", "without")}
        return {**scene.error.as_json(), "at": round(time.time(), 3), "attempt": attempt,
                "ready": self._state.read(files.READY), "health": self._state.read(files.HEALTH)}  # fmt: skip


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
