"""supervisord's configuration, and its start.

In: nothing but the environment; the configuration is one fixed text without any user's value in it. Out: supervisord's
own run. Three variables reach it by expansion: the state folder, and the command that runs our programs, quoted for
the shlex.split that supervisord applies after expanding (supervisor/options.py, supervisor/process.py).
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

from aim_engine.runtime import state as files
from aim_engine.runtime.spare import INTERPRETER, PROGRAMS, wait_for_word
from aim_engine.runtime.state import State

STATE_VARIABLE = "AIM_RUNTIME_STATE"
PROGRAM_VARIABLE = "AIM_RUNTIME_PROGRAM"
VARIABLE_PREFIXES = ("AIM_RUNTIME_", "SUPERVISOR_")  # not for the engine

# silent, logfile: what supervisord itself says is for the watch and for bug reports, not for the container's log.
# startsecs=0: an exit is EXITED at once, with its status, never BACKOFF without one.
# stdout of the server, stderr of our own programs: two pipes that boot reads and passes on.
# buffer_size: events that wait for the watch; when there are more, the oldest go (supervisor/process.py). The default
# of 10 is less than one traceback.
CONFIGURATION = """\
[supervisord]
nodaemon = true
silent = true
loglevel = info
logfile = %(ENV_AIM_RUNTIME_STATE)s/supervisord.log
logfile_maxbytes = 1MB
logfile_backups = 0
pidfile = %(ENV_AIM_RUNTIME_STATE)s/supervisord.pid
childlogdir = %(ENV_AIM_RUNTIME_STATE)s
nocleanup = true
minfds = 256
minprocs = 1

[unix_http_server]
file = %(ENV_AIM_RUNTIME_STATE)s/supervisor.sock
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[program:server]
command = %(ENV_AIM_RUNTIME_PROGRAM)s serve
priority = 1
autostart = true
autorestart = false
startsecs = 0
startretries = 0
stopsignal = TERM
stopasgroup = true
killasgroup = true
stopwaitsecs = 8
redirect_stderr = true
stdout_logfile = /dev/fd/1
stdout_logfile_maxbytes = 0
stdout_events_enabled = true

[program:sidecar]
command = %(ENV_AIM_RUNTIME_PROGRAM)s sidecar
priority = 2
autostart = true
autorestart = true
startsecs = 1
startretries = 1000
stopwaitsecs = 2
redirect_stderr = false
stdout_logfile = /dev/fd/2
stdout_logfile_maxbytes = 0
stderr_logfile = /dev/fd/2
stderr_logfile_maxbytes = 0

[eventlistener:watch]
command = %(ENV_AIM_RUNTIME_PROGRAM)s watch
events = PROCESS_STATE,PROCESS_LOG
priority = 3
buffer_size = 200
autostart = true
autorestart = true
startsecs = 0
stopwaitsecs = 2
stdout_logfile = NONE
stderr_logfile = /dev/fd/2
stderr_logfile_maxbytes = 0
"""


def main(arguments: list[str]) -> int:
    """Run supervisord: `FOLDER GO`, the folder that holds the `supervisor` package and where the word comes from."""
    folder, go = arguments
    if folder not in sys.path:
        sys.path.append(folder)
    from supervisor import supervisord

    daemon: Any = supervisord
    state_dir = wait_for_word(int(go))
    if state_dir is None:
        return 0
    os.environ[STATE_VARIABLE] = state_dir
    os.environ[PROGRAM_VARIABLE] = shlex.join([*INTERPRETER, PROGRAMS])
    state, parent = State(state_dir), os.getppid()
    try:
        daemon.main(["-c", state.path(files.CONFIG), *_user()])
    finally:
        if os.getppid() != parent:
            from aim_engine.runtime.orphaned import end_the_rest  # here: as long as it lives, the parent does it

            end_the_rest(state)
    return 0


def _user() -> list[str]:
    """As root, name root: otherwise supervisord warns that it drops no privileges. An image may have no such user."""
    if os.getuid() != 0:
        return []
    import pwd

    try:
        return ["-u", pwd.getpwuid(0).pw_name]
    except KeyError:
        return []
