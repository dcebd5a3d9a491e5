"""A failure that stays inspectable: a state folder with the last words in it in; the health sidecar's routes until a
signal asks to stop, then those words once more, out.

For what goes wrong before there is anything to supervise; later failures stay up under supervision (`watch`).
"""

from __future__ import annotations

import threading
import time
from typing import Any

from aim_engine.runtime import state as files
from aim_engine.runtime.attempts import staying_up
from aim_engine.runtime.ending import say_last_words
from aim_engine.runtime.health import Verdict
from aim_engine.runtime.http_server import HealthServer
from aim_engine.runtime.log import Log, copy_to
from aim_engine.runtime.log_copy import copy_of
from aim_engine.runtime.routes import Snapshot
from aim_engine.runtime.signals import Signals
from aim_engine.runtime.state import State

_TEND_EVERY_SECONDS = 1.0


def stay(state: State) -> int:
    """Tell why until a signal comes; the failure's own code. The signals are blocked already."""
    plan, words = state.read(files.PLAN), state.read(files.WORDS)
    runtime = plan["runtime"]
    if copy := copy_of(runtime):
        copy_to(copy.take_now)
    log = Log("boot", level=runtime["log_level"], style=runtime["log_format"])
    log.error(words["message"])
    try:
        server = HealthServer(runtime["host"], runtime["health_port"], _teller(state, plan, words))
    except OSError as error:
        log.error(f"cannot stay up as AIM_KEEP_ALIVE asks: port {runtime['health_port']}: {error.strerror}")
    else:
        log.error(staying_up(str(words.get("hint") or ""), runtime["health_port"]))
        _tell(server)
    say_last_words(state, words, style=runtime["log_format"])
    return int(words["code"])


def _teller(state: State, plan: dict[str, Any], words: dict[str, Any]) -> Any:
    verdict = Verdict(phase="failed", reason=words["message"], hint=words["hint"])

    def snapshot() -> Snapshot:
        timeline = tuple(state.timeline())
        return Snapshot(
            verdict=verdict, plan=plan, pid=None, timeline=timeline, attempts=(), counters={}, now=time.time()
        )

    return snapshot


def _tell(server: HealthServer) -> None:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5}, daemon=True).start()
    signals = Signals()
    while signals.asked is None:
        signals.wait(_TEND_EVERY_SECONDS, lambda: False, step=_TEND_EVERY_SECONDS)
        server.end_slow_connections()
