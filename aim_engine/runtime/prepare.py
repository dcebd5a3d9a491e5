"""Everything that can be wrong before a process is started: a plan in, a private state folder with plan.json out.

Checks what a start would stumble over minutes later: both ports, the cache folder, a second server in the same place.
Starts nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aim_engine.errors import CacheError, InputError
from aim_engine.runtime import state as files
from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.state import State

# sockaddr_un holds 108 bytes (unix(7)), and supervisord first binds `supervisor.sock.PID` (supervisor/http.py)
LONGEST_STATE_DIR = 80


def prepare(plan: Mapping[str, Any]) -> tuple[State, int]:
    """The state folder with plan.json in it, and the descriptor of the lock that makes the folder ours.

    Raises:
        InputError: a port is taken or not ours to take, or the state folder is not private.
        CacheError: a folder cannot be written.
    """
    contract = read_contract(plan)
    state = State(contract.state_dir)
    make_private_folder(Path(contract.state_dir))
    lock = _lock(state)
    check_port(contract.host, contract.port, "AIM_PORT")
    check_port(contract.host, contract.health_port, "AIM_HEALTH_PORT")
    check_cache(Path(contract.cache_dir))
    for path, text in contract.command.files:
        write_file(Path(path), text)
    if contract.tls_files:
        check_certificate(*contract.tls_files)
    if contract.image_cache is not None:
        seed_cache(Path(contract.image_cache), Path(contract.cache_dir))
    state.remove(*files.OF_ONE_RUN)
    try:
        state.write(files.PLAN, plan)
    except OSError as error:
        raise _unwritable("the state folder", contract.state_dir, "AIM_STATE_DIR", error) from error
    return state, lock


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
        raise _unwritable("the state folder", str(folder), "AIM_STATE_DIR", error) from error


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


def check_port(host: str, port: int, setting: str) -> None:
    """Bind the port once, as the engine will."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InputError(f"AIM_HOST={host} is not an address: {error}", hint="use 0.0.0.0 or 127.0.0.1") from None
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError as error:
            raise _port_refused(host, port, setting, error) from None


def _port_refused(host: str, port: int, setting: str, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"{setting}={port}: the port is taken{_holder(port)}",
            hint=f"stop that program, or choose another {setting}",
        )
    if error.errno == errno.EACCES:
        return InputError(
            f"{setting}={port}: uid {os.getuid()} may not listen there", hint=f"choose a {setting} of at least 1024"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return InputError(f"AIM_HOST={host} is not an address of this machine", hint="use 0.0.0.0 or 127.0.0.1")
    return InputError(f"{setting}={port} on {host}: {error.strerror}", hint=f"choose another {setting}")


def _holder(port: int) -> str:
    """` by pid 7 (python3)`, as far as /proc lets us see it."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for folder in Path("/proc").iterdir() if wanted else ():
        if not folder.name.isdigit():
            continue
        try:
            if any(os.readlink(entry) in wanted for entry in (folder / "fd").iterdir()):  # noqa: PTH115
                return f" by pid {folder.name} ({(folder / 'comm').read_text().strip()})"
        except OSError:
            continue
    return ""


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: TCP_LISTEN
                found.add(fields[9])
    return found


def check_cache(folder: Path) -> None:
    """Write to the cache folder once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable("the cache folder", str(folder), "AIM_CACHE_DIR", error) from error


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
        raise _unwritable("the file", str(path), "AIM_CACHE_DIR", error) from error


def _unwritable(what: str, path: str, setting: str, error: OSError) -> CacheError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheError(f"{what} {path} is full", hint=f"free some space, or set {setting} to a larger volume")
    return CacheError(
        f"{what} {path} cannot be written by uid {os.getuid()}: {error.strerror}",
        hint=f"mount a volume there that uid {os.getuid()} may write, or set {setting}",
    )
