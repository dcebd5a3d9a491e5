"""Everything that can be wrong before a process is started: a plan in, a private state folder with plan.json out.

Checks what a start would stumble over minutes later: both ports, the cache folder, a second server in the same place,
and all that `aim-engine doctor` looks at. Starts nothing.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aim_engine.errors import CacheError, InputError
from aim_engine.hardware.folders import check_writable, unwritable
from aim_engine.hardware.ports import check_port
from aim_engine.runtime import state as files
from aim_engine.runtime.contract import Contract, read_contract
from aim_engine.runtime.state import State

if TYPE_CHECKING:
    from aim_engine.hardware.check import Site

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
    state = State(contract.state_dir)
    make_private_folder(Path(contract.state_dir))
    lock = _lock(state)
    check_port(contract.host, contract.port, "AIM_PORT")
    check_port(contract.host, contract.health_port, "AIM_HEALTH_PORT")
    check_cache(Path(contract.cache_dir))
    warnings = check_site(plan, contract, site)
    for path, text in contract.command.files:
        write_file(Path(path), text)
    for folder, source, pattern in contract.command.links:
        link_files(Path(folder), Path(source), pattern)
    if contract.tls_files:
        check_certificate(*contract.tls_files)
    if contract.image_cache is not None:
        seed_cache(Path(contract.image_cache), Path(contract.cache_dir))
    state.remove(*files.OF_ONE_RUN)
    try:
        told = {**plan, "warnings": [*plan.get("warnings", ()), *warnings]} if warnings else plan
        state.write(files.PLAN, told)
    except OSError as error:
        raise unwritable("the state folder", contract.state_dir, "AIM_STATE_DIR", error) from error
    return state, lock


def check_site(plan: Mapping[str, Any], contract: Contract, site: Site | None) -> list[str]:
    """Ask the pre-flight checks, say their warnings in the log, and return them.

    Raises:
        AimError: the gravest of the errors found, with the others as its details.
    """
    # here: the folder's name, which the command line asks of this module, must not cost these imports
    from aim_engine.hardware.check import this_site
    from aim_engine.hardware.preflight import error_of, look
    from aim_engine.runtime.log import Log
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
    os.set_inheritable(descriptor, True)
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


def seed_cache(prepared: Path, cache: Path) -> None:
    """Lay what the image's build prepared into the cache, where it is not there yet. A comfort: a cache that cannot
    take it has been, or will be, complained of elsewhere, and the engine makes what is missing.
    """
    for folder, _, names in os.walk(prepared):
        for name in names:
            source = Path(folder) / name
            target = cache / source.relative_to(prepared)
            try:
                if not target.exists():
                    write_file(target, source.read_text())
            except (OSError, UnicodeDecodeError, CacheError):
                return


def link_files(folder: Path, source: Path, pattern: str) -> None:
    """Links in `folder` to the source's files. What is there already stays, but for links that lead nowhere."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(source.glob(pattern)):
            link = folder / file.name
            if link.is_symlink() and not link.exists():
                link.unlink()
            with suppress(FileExistsError):  # another start may have been faster
                link.symlink_to(file)
    except OSError as error:
        raise unwritable("the folder", str(folder), "AIM_CACHE_DIR", error) from error


def write_file(path: Path, text: str) -> None:
    """Write one of the files that the engine needs; another start may read it meanwhile, so it is replaced whole."""
    try:
        if path.is_file() and path.read_text() == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise unwritable("the file", str(path), "AIM_CACHE_DIR", error) from error
