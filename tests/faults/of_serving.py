"""Rows of the fault matrix: what is done to a container that serves."""

from __future__ import annotations

from functools import partial

from tests.faults.fault import Fault

_KILLED, _STOPPED = "A process is killed", "A process stands still, or everything does"
_SERVING = "image/test_faults_serving.py"

_served_on = partial(Fault, when="serving", test=_SERVING)
_stopped_shortly = partial(_served_on, about=_STOPPED)

OF_SERVING: tuple[Fault, ...] = (
    _served_on(id="sidecar-killed-idle", about=_KILLED, what="The health sidecar is killed",
               injected="kill -9 in the container"),
    _served_on(id="sidecar-killed-streaming", about=_KILLED, what="The health sidecar is killed while a stream runs",
               injected="kill -9 in the container; the stream ends whole"),
    _served_on(id="watch-killed-idle", about=_KILLED, what="The watch is killed", injected="kill -9 in the container"),
    _served_on(id="watch-killed-streaming", about=_KILLED, what="The watch is killed while a stream runs",
               injected="kill -9 in the container; the stream ends whole"),
    _served_on(id="worker-killed-streaming", about=_KILLED, what="A worker of the engine is killed while a stream runs",
               injected="kill -9 in the container; the stream is cut", error_class="EngineCrashed", attempts=1,
               says="the engine ended while it served"),
    _stopped_shortly(id="server-stopped-shortly-idle", what="The API server stands still for seconds",
                     injected="SIGSTOP for 2 s, then SIGCONT"),
    _stopped_shortly(id="server-stopped-shortly-streaming",
                     what="The API server stands still for seconds while a stream runs",
                     injected="SIGSTOP for 2 s, then SIGCONT; the stream ends whole"),
    _stopped_shortly(id="server-stopped-shortly-prefilling",
                     what="The API server stands still for seconds while a long prompt is read",
                     injected="SIGSTOP for 2 s, then SIGCONT; the answer is whole"),
    _stopped_shortly(id="core-stopped-shortly-idle",
                     what="The core (the process that computes) stands still for seconds",
                     injected="SIGSTOP for 2 s, then SIGCONT"),
    _stopped_shortly(id="core-stopped-shortly-streaming",
                     what="The core stands still for seconds while a stream runs",
                     injected="SIGSTOP for 2 s, then SIGCONT; the stream ends whole"),
    _stopped_shortly(id="core-stopped-shortly-prefilling",
                     what="The core stands still for seconds while a long prompt is read",
                     injected="SIGSTOP for 2 s, then SIGCONT; the answer is whole"),
    _stopped_shortly(id="worker-stopped-shortly-streaming", what="A worker stands still while a stream runs",
                     injected="SIGSTOP for 2 s, then SIGCONT; the stream ends whole"),
    _stopped_shortly(id="sidecar-stopped-streaming", what="The sidecar stands still while a stream runs",
                     injected="SIGSTOP for 2 s, then SIGCONT; the stream ends whole"),
    _stopped_shortly(id="watch-stopped-streaming", what="The watch stands still while a stream runs",
                     injected="SIGSTOP for 2 s, then SIGCONT; the stream ends whole"),
    _stopped_shortly(id="supervisord-stopped-streaming", what="Supervisord stands still while a stream runs",
                     injected="SIGSTOP for 2 s, then SIGCONT; the stream ends whole"),
    _stopped_shortly(id="everything-paused-streaming", what="The whole container stands still, its clocks jump",
                     injected="docker pause for longer than AIM_HANG_TIMEOUT; the stream ends whole"),
    _stopped_shortly(id="server-stopped-idle", what="The API server stands still for AIM_HANG_TIMEOUT",
                     injected="SIGSTOP; found within AIM_HANG_TIMEOUT + 10 s", error_class="EngineHung", attempts=1,
                     says="has not answered for"),
    _served_on(id="log-flood-streaming", about=_STOPPED, what="The engine floods its log while a stream runs",
               injected="100,000 lines into the engine's own pipe; every line comes out, and the stream ends whole"),
)  # fmt: skip
