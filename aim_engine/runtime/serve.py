"""The server's own process: plan.json in, the engine in this very process out.

supervisord starts it, it writes down who it is, and becomes the engine by execve; so the pid supervisord knows is the
server's, and its process group holds all that the server starts. Knows nothing of what the arguments mean.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace

from aim_engine.errors import InternalError
from aim_engine.runtime import state as files
from aim_engine.runtime.contract import Contract, read_contract
from aim_engine.runtime.front_end import forget
from aim_engine.runtime.log import Log
from aim_engine.runtime.processes import die_with_parent, identify
from aim_engine.runtime.rungs import below, taken
from aim_engine.runtime.state import State
from aim_engine.runtime.supervisord import STATE_VARIABLE, VARIABLE_PREFIXES

CANNOT_START = 127


def main(arguments: list[str]) -> int:
    """Become the server, or say why not. `CANNOT_START` is the exit status when there is nothing to become."""
    del arguments
    state = State(os.environ[STATE_VARIABLE])
    try:
        contract = read_contract(state.read(files.PLAN) or {})
    except InternalError as error:
        Log("serve").error(error.message)
        return InternalError.code
    log = Log("serve", level=contract.log_level, style=contract.log_format)
    identity = identify(os.getpid())
    if identity is None:
        log.error("cannot read /proc: mount it")
        return InternalError.code
    # an end of supervisord without its knowing (a KILL) must not leave the engine behind
    die_with_parent(os.getppid(), signal.SIGTERM)
    state.write_text(files.SERVER, f"{identity.pid} {identity.start_ticks}\n")
    if state.exists(files.STOP):  # after writing who we are: whoever asked for the end looks there after the marker
        return 0
    names = (state.read(files.ATTEMPTS) or {}).get("rungs", contract.given_up)
    command = below(contract.command, taken(contract.ladder, names))
    return _become(replace(contract, command=command), state, log)


def _become(contract: Contract, state: State, log: Log) -> int:
    environment = at_home(server_environment(contract, dict(os.environ)), contract.cache_dir)
    environment = with_own_folder(environment, state.path(files.TEMPORARY))
    forget(state.path(files.TEMPORARY))
    environment |= {
        "AIM_ENGINE_STOP_FILE": state.path(files.STOP),
        "AIM_ENGINE_RECEIPTS": state.path(files.TEMPORARY),
        "AIM_ENGINE_CANARY": (state.read(files.RUN) or {}).get("canary", ""),
    }
    # Python ignores these two, and what is ignored stays so across execve (signal(7))
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_DFL)
    program = contract.command.argv[0]
    state.record(event="exec", pid=os.getpid())
    log.debug(f"starting {program} at {time.monotonic():.3f}")
    try:
        os.execvpe(program, contract.command.argv, environment)  # noqa: S606 - no shell, by design
    except OSError as error:
        log.error(f"cannot start the engine: {program}: {error.strerror}")
        return CANNOT_START


def server_environment(contract: Contract, environment: dict[str, str]) -> dict[str, str]:
    """The engine's environment: ours, without what is for supervisord's children, with the plan's values over it."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(VARIABLE_PREFIXES) and name not in contract.command.unset
    }
    return {**kept, **contract.command.env}


def with_own_folder(environment: dict[str, str], folder: str) -> dict[str, str]:
    """The environment with a folder for temporary files that goes when the run ends: vLLM leaves some behind when it
    is killed. Not where its sockets' paths would become too long there (unix(7): 107 bytes; a name of 37 follows).
    """
    if len(os.fsencode(folder)) > 107 - 1 - 37:
        return environment
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - slim
    except OSError:
        return environment
    return {**environment, "TMPDIR": folder}


def at_home(environment: dict[str, str], cache_dir: str) -> dict[str, str]:
    """The environment with a HOME that can be written and a name for the user.

    A container may run as a user id that no passwd entry names, with HOME=/: libraries then fail at getpwuid or write
    nowhere (torch's compiler asks getpass.getuser for the name of its cache). Each user has a home of its own: the
    cache may be shared.
    """
    found = dict(environment)
    if not os.access(found.get("HOME", ""), os.W_OK | os.X_OK):
        found["HOME"] = f"{cache_dir}/home-{os.getuid()}"
        with suppress(OSError):
            os.makedirs(found["HOME"], mode=0o700, exist_ok=True)  # noqa: PTH103 - slim
    if not any(found.get(name) for name in ("LOGNAME", "USER")):
        import pwd

        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            found["USER"] = found["LOGNAME"] = "aim"
    return found
