"""Rows of the fault matrix: processes that are killed or stopped, and signals."""

from __future__ import annotations

from functools import partial

from tests.faults.fault import Fault

_KILLED, _STOPPED, _ASKED = "A process is killed", "A process stands still, or everything does", "A stop is asked for"
_STARTING = "image/test_faults_starting.py"
_ENDS = "engine/test_ends.py"

_starting = partial(Fault, when="start", test=_STARTING)
_drained = partial(Fault, about=_ASKED, error_class="Drained", code=0)

OF_PROCESSES: tuple[Fault, ...] = (
    # --- killed while it serves
    Fault(id="core-killed-idle", about=_KILLED, what="The engine's core is killed", when="serving", test=_ENDS,
          injected="kill -9; vLLM itself then ends with status 0", error_class="EngineCrashed", attempts=1,
          says="the engine ended while it served"),
    Fault(id="server-killed-idle", about=_KILLED, what="The API server is killed, with no retry left", when="serving",
          test=_ENDS, injected="kill -9; its core would live on", error_class="EngineCrashed", code=51, attempts=0,
          says="killed by SIGKILL", remedy="log says more"),
    # --- killed while it starts
    _starting(id="server-killed-importing", about=_KILLED, what="The engine is killed while it starts, with no retry",
              injected="kill -9 in the container, AIM_FALLBACK=0", error_class="EngineCrashed", code=51, attempts=1,
              says="killed by SIGKILL", remedy="said nothing before it ended"),
    _starting(id="supervisord-killed-importing", about=_KILLED, what="Supervisord is killed",
              injected="kill -9 in the container", error_class="EngineCrashed", code=51, attempts=1,
              says="supervisord was killed from outside", remedy="start again"),
    _starting(id="watch-and-sidecar-killed-importing", about=_KILLED, attempts=1,
              what="The watch and the sidecar are killed while the engine starts", injected="kill -9 in the container"),
    _starting(id="boot-killed-importing", about=_KILLED, what="boot, the parent of all, is killed below another pid 1",
              injected="kill -9 in a container whose pid 1 is a shell; it says nothing more", code=137, attempts=1),
    _starting(id="container-killed-importing", about=_KILLED, what="docker kill: the container's pid 1 is killed",
              injected="docker kill; it says nothing more", code=137, attempts=1),
    # --- stopped for more than AIM_HANG_TIMEOUT
    Fault(id="core-stopped-asked", about=_STOPPED, what="The core stands still with work, with no retry left",
          when="serving", test=_ENDS, injected="SIGSTOP; found within AIM_HANG_TIMEOUT + 10 s",
          error_class="EngineHung", code=53, says="has not advanced", remedy="the driver's log"),
    Fault(id="copy-stopped-streaming", about=_STOPPED, test="engine/test_copies.py", when="serving",
          what="One copy of two stands still while the other serves, with no retry left",
          injected="--data-parallel-size 2, SIGSTOP of one core", error_class="EngineHung", code=53,
          says="of the engine has not advanced", remedy="what else this machine has to do"),
    Fault(id="copy-stopped-idle", about=_STOPPED, test="engine/test_copies.py", when="serving",
          what="One copy of two is stopped while it is idle, and then work comes; no retry left",
          injected="--data-parallel-size 2, SIGSTOP of one idle core", error_class="EngineHung", code=53,
          says="shows no work, and has not answered a request for one token",
          remedy="what else this machine has to do"),
    Fault(id="front-end-stopped", about=_STOPPED, test="engine/test_front_ends.py", when="serving",
          what="One front end of two stands still while the other answers, with no retry left",
          injected="--api-server-count 2, SIGSTOP of one of them", error_class="EngineHung", code=53,
          says="a front end of the server", remedy="what else this machine has to do"),
    # --- signals
    _drained(id="term-planning", what="SIGTERM while the plan is made", when="stopping", test=_STARTING,
             injected="while the hub takes its time", says="stopped as SIGTERM asked, while the plan was being made"),
    _drained(id="hup-planning", what="SIGHUP while the plan is made", when="stopping", test=_STARTING,
             injected="while the hub takes its time", says="stopped as SIGHUP asked, while the plan was being made"),
    _drained(id="int-importing", what="SIGINT while the engine is imported", when="stopping", test=_STARTING,
             injected="docker kill --signal INT", says="stopped as SIGINT asked"),
    _drained(id="hup-importing", what="SIGHUP while the engine is imported", when="stopping", test=_STARTING,
             injected="docker kill --signal HUP", says="stopped as SIGHUP asked"),
    _drained(id="term-importing-frozen-server", what="SIGTERM, and the engine stands still", when="stopping",
             test=_STARTING, injected="SIGSTOP of the engine, docker kill --signal TERM",
             says="stopped as SIGTERM asked"),
    Fault(id="term-term-importing-frozen-server", about=_ASKED, what="SIGTERM twice, and the engine stands still",
          when="stopping", test=_STARTING, injected="SIGSTOP of the engine, docker kill --signal TERM, twice",
          error_class="Killed", code=143, says="a second signal asked not to wait"),
    _drained(id="term-importing-frozen-supervisord", what="SIGTERM, and supervisord stands still", when="stopping",
             test=_STARTING, injected="SIGSTOP of supervisord, docker kill --signal TERM",
             says="stopped as SIGTERM asked"),
    _drained(id="term-downloading", what="SIGTERM while the weights are downloaded", when="stopping",
             test="engine/test_start_phases.py", injected="in the middle of a file, of which what is there is kept",
             says="stopped as SIGTERM asked"),
    _drained(id="term-loading", what="SIGTERM while the model is loaded", when="stopping", test=_ENDS,
             injected="after 1, 5 and 9 seconds; the engine alone would swallow some of them",
             says="stopped as SIGTERM asked"),
    _drained(id="term-compiling", what="SIGTERM while it compiles", when="stopping", test=_ENDS,
             injected="into an empty compile cache", says="stopped as SIGTERM asked"),
    _drained(id="term-probing", what="SIGTERM while the first answer is waited for", when="stopping", test=_ENDS,
             injected="SIGSTOP of the core before it is asked", says="stopped as SIGTERM asked"),
    _drained(id="term-streaming", what="SIGTERM while a stream runs", when="stopping", test=_ENDS,
             injected="the stream ends whole, a request that comes late is refused; the receipt counts both",
             says="1 finished, 1 refused, 0 cut"),
    _drained(id="term-two-front-ends", what="SIGTERM while both front ends of two copies stream", when="stopping",
             test="engine/test_front_ends.py",
             injected="the engine would cut all at once; every stream ends whole, what comes late is refused",
             says="8 finished"),
    _drained(id="docker-stop-streaming", what="docker stop while a stream runs", when="stopping",
             test="image/test_hardened.py", injected="docker stop; the stream ends whole",
             says="stopped as SIGTERM asked"),
)  # fmt: skip
