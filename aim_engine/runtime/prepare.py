"""Everything that can be wrong before a process is started: a plan in, a private state folder with plan.json out.

Checks what a start would stumble over minutes later: both ports, the cache folder, a second server in the same place,
and all that `aim-engine doctor` looks at. Starts nothing.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aim_engine.errors import InputError, ModelAccessError
from aim_engine.hardware.preflight.folders import check_writable, unwritable
from aim_engine.hardware.preflight.ports import check_port
from aim_engine.runtime import state as files
from aim_engine.runtime.contract import Contract, read_contract
from aim_engine.runtime.layout import lay_out
from aim_engine.runtime.log import Log
from aim_engine.runtime.state import State

if TYPE_CHECKING:
    from aim_engine.hardware.preflight.check import Site

# sockaddr_un holds 108 bytes (unix(7)), and supervisord first binds `supervisor.sock.PID` (supervisor/http.py)
LONGEST_STATE_DIR = 80
# Of the pre-flight checks these are made here, in a way that a mere look cannot: the cache is made, the ports are bound
# before anything else is said of them.
_CHECKED_HERE = ("cache", "ports")


def prepare(plan: Mapping[str, Any], site: Site | None = None) -> tuple[State, int]:
    """The state folder with plan.json in it, and the descriptor of the lock that makes the folder ours.

    Raises:
        InputError: a port is taken or not ours to take, or the state folder is not private.
        CacheError: a folder cannot be written, or a disk is too small.
        AimError: whatever else the pre-flight checks found that the start could not survive.
    """
    contract = read_contract(plan)
    state, lock = take_folder(contract.state_dir)
    try:
        _prepare(plan, contract, state, site)
    except BaseException:
        os.close(lock)
        raise
    return state, lock


def take_folder(folder: str) -> tuple[State, int]:
    """Make a state folder, and make it ours."""
    make_private_folder(Path(folder))
    state = State(folder)
    return state, _lock(state)


def _prepare(plan: Mapping[str, Any], contract: Contract, state: State, site: Site | None) -> None:
    if contract.node_rank == 0:  # a worker has no API
        check_port(contract.host, contract.port, "AIM_PORT")
    if contract.nodes > 1 and contract.node_rank == 0:
        check_port("0.0.0.0", contract.leader_port, "AIM_LEADER_PORT")
    check_port(contract.host, contract.health_port, "AIM_HEALTH_PORT")
    check_cache(Path(contract.cache_dir))
    warnings = check_site(plan, contract, site)
    if contract.tls_files:
        check_certificate(*contract.tls_files)
    if contract.model.startswith("/"):
        check_model_folder(Path(contract.model))
        check_tokenizer(Path(contract.model), contract.command.argv)
    told = lay_out(plan, contract)
    for note in told.get("notes", ())[len(plan.get("notes", ())) :]:
        Log("preflight", level=contract.log_level, style=contract.log_format).info(note)
    if warnings:
        told = {**told, "warnings": [*plan.get("warnings", ()), *warnings]}
    state.remove(*files.OF_ONE_RUN)
    try:
        state.write(files.PLAN, told)
    except OSError as error:
        raise unwritable("the state folder", contract.state_dir, "AIM_STATE_DIR", error) from error


def check_site(plan: Mapping[str, Any], contract: Contract, site: Site | None) -> list[str]:
    """Ask the pre-flight checks, say their warnings in the log, and return them.

    Raises:
        AimError: the gravest of the errors found, with the others as its details.
    """
    # here: the folder's name, which the command line asks of this module, must not cost these imports
    from aim_engine.hardware.preflight.check import this_site
    from aim_engine.hardware.preflight.look import error_of, look
    from aim_engine.runtime.needs import needs_of

    site = site or this_site(os.environ)
    checks = look(needs_of(plan, site.environment), site, without=_CHECKED_HERE)
    error = error_of(checks)
    if error is not None:
        raise error
    warnings = [f"{check.sentence}; remedy: {check.remedy}" for check in checks if check.outcome == "warning"]
    log = Log("preflight", level=contract.log_level, style=contract.log_format)
    for warning in warnings:
        log.warning(warning)
    return warnings


def make_private_folder(folder: Path) -> None:
    """Make a folder that only we may enter.

    A socket in it takes commands, so a folder that another user made, or could replace, will not do.
    """
    if len(os.fsencode(folder)) > LONGEST_STATE_DIR:
        raise InputError(
            f"the path of the state folder is longer than {LONGEST_STATE_DIR} bytes: {folder}",
            hint="set AIM_STATE_DIR to a shorter path; a socket is made in it",
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.parent.name.startswith("aim-engine-") and folder.parent.stat().st_uid == os.getuid():
            folder.parent.chmod(0o700)
        for place in (folder.parent, folder):
            _check_owner(place, private=place == folder)
        folder.chmod(0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable("the state folder", str(folder), "AIM_STATE_DIR", error) from error


def _check_owner(place: Path, *, private: bool) -> None:
    found = place.lstat()
    replaceable = bool(found.st_mode & 0o022) and not found.st_mode & stat.S_ISVTX
    foreign = found.st_uid != os.getuid() and (private or found.st_uid != 0)
    if foreign or not stat.S_ISDIR(found.st_mode) or (replaceable and not private):
        whose = f"it belongs to uid {found.st_uid}" if foreign else "others could replace it"
        raise InputError(
            f"{place} cannot hold the state of a server of uid {os.getuid()}: {whose}",
            hint="set AIM_STATE_DIR to a folder of your own",
        )


def _lock(state: State) -> int:
    """Hold the folder for as long as this process, and what it becomes, lives."""
    descriptor = os.open(state.path(files.LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InputError(
            f"another server uses {state.folder}", hint="stop it, or give this one another AIM_PORT or AIM_STATE_DIR"
        ) from None
    return descriptor


def check_cache(folder: Path) -> None:
    """Make the cache folder, and write to it once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable("the cache folder", str(folder), "AIM_CACHE_DIR", error) from error
    check_writable("the cache folder", folder, "AIM_CACHE_DIR")


def check_certificate(certificate: str, key: str) -> None:
    """Load what the engine will load, minutes before it does."""
    import ssl  # here: most servers do without

    try:
        for setting, path in (("AIM_TLS_CERT", certificate), ("AIM_TLS_KEY", key)):
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
                # a pipe, above all: reading it may wait for ever, and what was read once is gone for the engine
                raise InputError(f"{setting}={path} is not a regular file", hint="give the path of a PEM file")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise InputError(
            f"AIM_TLS_CERT={certificate}, AIM_TLS_KEY={key}: no certificate with its key ({error.reason or error})",
            hint="give a certificate chain and its unencrypted private key, both in PEM form",
        ) from None
    except OSError as error:
        raise InputError(
            f"AIM_TLS_CERT={certificate} or AIM_TLS_KEY={key} cannot be read by uid {os.getuid()}: {error.strerror}",
            hint="mount both files, and make them readable for that user",
        ) from None


def check_tokenizer(folder: Path, argv: Sequence[str]) -> None:
    """A local model has one, unless the engine is told of another: it would make one of nothing, and serve noise (vLLM
    0.32 with transformers 5 does so for Qwen3).
    """
    from aim_engine.catalog.hub_cache import holds_tokenizer  # here: whoever made a plan has it loaded already

    if any(word.startswith(("--tokenizer", "--skip-tokenizer-init")) for word in argv):
        return
    with suppress(OSError):
        if not holds_tokenizer(path.name for path in folder.iterdir()):
            raise ModelAccessError(
                f"{folder} holds no tokenizer", hint="put tokenizer.json and tokenizer_config.json of the model there"
            )


def check_model_folder(folder: Path) -> None:
    """Every file of a local model is one, as far as can be seen: the engine would wait for ever for a pipe."""
    try:
        for path in sorted(folder.iterdir()):
            with suppress(OSError):  # a link to nowhere: the engine may not need it
                mode = path.stat().st_mode
                if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                    raise ModelAccessError(f"{path} is not a regular file", hint="put the model's own file there")
    except OSError:
        return
