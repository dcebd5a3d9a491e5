"""The way to a Docker Engine: an environment in, a client of the official SDK out; and what Docker refuses as our
errors, each with its remedy. Knows no plan and no container of ours.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from aim_engine.errors import AimError, CacheError, DockerError, InputError

if TYPE_CHECKING:
    from docker import DockerClient

T = TypeVar("T")

_ASK_SECONDS = 60  # the longest single answer that is waited for; creating a container on a busy disk takes seconds
_LOOK_SECONDS = 12  # the same of a question that changes nothing, and of the first one
_PING_SECONDS = 2  # an engine that lives answers this one in milliseconds, however busy it is
_LONGEST = 200  # of what is quoted
_WHERE = "DOCKER_HOST or the current docker context says where it is"
_ADDRESSES = "use unix:///path, tcp://host:port or ssh://user@host"

_NO_SOCKET = "no Docker Engine is here: its socket does not exist"

# What the SDK, the socket or the daemon says (in lower case), what that means, and what to do about it. These words
# have stood in moby and the SDK for years; an error without any of them is passed on as it is.
_UNREACHABLE = (
    ("permissionerror", "this user may not use Docker's socket",
     "add yourself to the docker group (usermod -aG docker NAME, then log in again), or use sudo"),
    ("filenotfounderror", _NO_SOCKET,
     f"install Docker, or start it (systemctl start docker); {_WHERE}"),
    ("connectionrefusederror", "no Docker Engine answers: its socket is there, but nobody listens",
     f"start it (systemctl start docker); {_WHERE}"),
    ("connection refused", "no Docker Engine answers there", f"start it, or correct the address; {_WHERE}"),
    ("name or service not known", "the Docker Engine's host is not known", f"correct the address; {_WHERE}"),
    ("paramiko", "ssh:// needs one more Python package", "pip install paramiko"),
    ("object has no attribute", "Docker's own settings are not understood",
     "correct ~/.docker/config.json, or name another folder with DOCKER_CONFIG"),
    ("bind address", "DOCKER_HOST is no address", _ADDRESSES),
    ("not supported by this client", "the Docker Engine is too old or too new for this client", "update Docker"),
    ("below minimum", "the Docker Engine is too old", "update it to 20.10 or newer"),
    ("is too old", "the Docker Engine and this client speak no common version", "update the older of the two"),
    ("certificate", "the Docker Engine and this client do not trust each other (TLS)",
     "check DOCKER_TLS_VERIFY, and ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH"),
    ("tls", "the Docker Engine cannot be reached by TLS",
     "check DOCKER_TLS_VERIFY, and ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH"),
    ("timed out", "the Docker Engine does not answer", f"docker version says whether it lives; {_WHERE}"),
    ("remotedisconnected", "the Docker Engine went away", "docker version says whether it is back; then try again"),
    ("connectionreset", "the Docker Engine went away", "docker version says whether it is back; then try again"),
    ("incompleteread", "the Docker Engine went away", "docker version says whether it is back; then try again"),
)  # fmt: skip
_REFUSED: tuple[tuple[str, type[AimError], str], ...] = (
    ("no space left on device", CacheError, "the disk of Docker is full: docker system df shows by what"),
    ("port is already allocated", InputError, "choose another --port or --health-port, or leave them out"),
    ("address already in use", InputError, "choose another --port or --health-port, or leave them out"),
    ("is already in use by container", InputError, "choose another --name, or leave it out"),
    ("cannot assign requested address", InputError, "--host is not an address of Docker's host"),
    ("bind source path does not exist", InputError, "the path must exist where the Docker Engine runs"),
    ("no such image", DockerError, "docker images lists those that are here; --image names another"),
    ("could not select device driver", DockerError, "use --device-mode devices, or install AMD's container toolkit"),
    ("unknown or invalid runtime name", DockerError, "use --device-mode devices, or install AMD's container toolkit"),
    ("error gathering device information", DockerError,
     "the GPUs' device files must be on Docker's host: ls -l /dev/kfd /dev/dri"),
    ("network", DockerError, "docker network ls lists those that exist"),
)  # fmt: skip


def connect(environment: Mapping[str, str]) -> DockerClient:
    """A client that has spoken with the engine: DOCKER_HOST, else the docker command's current context.

    Raises:
        DockerError: no engine answers, or it may not be used; the hint says what to do.
        InputError: Docker's own settings are none.
    """
    with guarded("be reached"), _settings_understood(environment):
        import docker

        host = environment.get("DOCKER_HOST") or _of_context(environment)
        if host.startswith("unix://"):
            _knock(host.removeprefix("unix://"))
        # through the ssh program: it knows the user's keys and agents, and needs no further package
        client = docker.from_env(
            environment=dict(environment), timeout=_LOOK_SECONDS, use_ssh_client=host.startswith("ssh://")
        )
    client.api.timeout = _ASK_SECONDS
    for way in set(client.api.adapters.values()):
        _hurry(way)
    return client


def _hurry(way: Any) -> None:
    """Of one of the SDK's ways to the engine: a question that changes nothing is answered soon, or not at all."""
    send = way.send

    def send_hurried(request: Any, *arguments: Any, timeout: Any = None, **more: Any) -> Any:
        soon = request.method == "GET" and timeout == _ASK_SECONDS
        return send(request, *arguments, timeout=_LOOK_SECONDS if soon else timeout, **more)

    way.send = send_hurried


def _of_context(environment: Mapping[str, str]) -> str:
    """Where the SDK looks where DOCKER_HOST is not set."""
    from docker.constants import DEFAULT_UNIX_SOCKET
    from docker.context import ContextAPI

    read = getattr(ContextAPI, "kwargs_from_context", None)  # the SDK knows no contexts before 7.2
    found = read(environment=dict(environment)).get("base_url") if read else None
    return str(found or DEFAULT_UNIX_SOCKET).removeprefix("http+")


@contextmanager
def _settings_understood(environment: Mapping[str, str]) -> Iterator[None]:
    """The SDK trusts an address to be one, and ~/.docker/config.json to be an object with objects in it."""
    import requests
    from docker.utils.config import find_config_file

    try:
        yield
    except requests.RequestException:  # some of them are ValueErrors too
        raise
    except ValueError as error:
        host = environment.get("DOCKER_HOST", "")
        raise DockerError(f"DOCKER_HOST={host[:_LONGEST]} is no address ({error})", hint=_ADDRESSES) from None
    except (AttributeError, TypeError, KeyError) as error:
        path = find_config_file()
        if path is None:
            raise
        raise InputError(
            f"{path} holds something else than Docker's settings ({error})",
            hint="correct it, or name another folder with DOCKER_CONFIG",
        ) from None


def _knock(path: str) -> None:
    """Fail here where nobody answers: the SDK would leave its socket open, and say the same in ten times the words."""
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.settimeout(_LOOK_SECONDS)
        try:
            knocking.connect(path)
        except OSError as error:
            error.filename = path  # which the system does not say of a socket
            raise


@contextmanager
def guarded(doing: str, *, remedy: str = "") -> Iterator[None]:
    """Turn what the SDK, or the connection below it, raises into one of our errors. `doing` completes "Docker could
    not ..."; `remedy` is for whatever the engine itself refuses.
    """
    import requests
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        raise _refusal(doing, str(error.explanation or error), remedy) from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise _unreachable(doing, error) from None


def begun(call: Callable[[], T], answer: Future[T] | None = None) -> Future[T]:
    """The call in a thread of its own, that nobody has to wait for when the program ends."""
    coming: Future[T] = answer or Future()

    def work() -> None:
        if not coming.set_running_or_notify_cancel():
            return
        try:
            coming.set_result(call())
        except BaseException as error:
            coming.set_exception(error)

    Thread(target=work, daemon=True).start()
    return coming


def in_one_piece(client: DockerClient, call: Callable[[], T]) -> T:
    """The call's result. An interrupt waits for its end as long as the engine lives: one that was asked goes on though
    nobody listens any more, and what it makes after a look at what is to be removed would stay.
    """
    answer: Future[T] = Future()
    try:
        return begun(call, answer).result()
    except BaseException:
        if not answer.cancel():  # or it has not begun, and will not
            deadline = time.monotonic() + _ASK_SECONDS
            while not wait([answer], _PING_SECONDS / 2).done and time.monotonic() < deadline and hasten(client):
                pass
        raise


def hasten(client: DockerClient) -> bool:
    """Whether the engine answers at all. From one that does not, nothing is waited for any more: whoever takes back
    what was made asks several times.
    """
    import requests

    try:
        client.api.get(f"{client.api.base_url}/_ping", timeout=_PING_SECONDS)
    except (requests.RequestException, OSError):
        client.api.timeout = _PING_SECONDS
        return False
    return True


def is_about_a_port(error: AimError) -> bool:
    """Whether the engine refused because somebody has a port that the container was to have."""
    return "port is already allocated" in error.message or "address already in use" in error.message


def is_about_a_name(error: AimError) -> bool:
    """Whether the engine refused because another container has the name."""
    return "is already in use by container" in error.message


def _refusal(doing: str, said: str, remedy: str) -> AimError:
    """What the engine itself answered."""
    sentence = f"Docker could not {doing}: {said.strip()}"
    for words, kind, hint in _REFUSED:
        if words in said.lower() and not (remedy and kind is DockerError):
            return kind(sentence, hint=hint)
    return DockerError(sentence, hint=remedy or "the engine's own log says more: journalctl -u docker")


def _unreachable(doing: str, error: Exception) -> DockerError:
    said = " ".join(str(error).split()) or type(error).__name__
    text = f"{type(error).__name__} {said}".lower()
    for words, sentence, hint in _UNREACHABLE:
        if words in text:
            path = getattr(error, "filename", None)
            if path:  # then the sentence says all that there is to say
                return DockerError(f"{sentence}: {path}", hint=hint)
            return DockerError(f"{sentence} ({said[:_LONGEST]})", hint=hint)
    return DockerError(f"Docker could not {doing}: {said}", hint=f"docker version says whether it answers; {_WHERE}")
