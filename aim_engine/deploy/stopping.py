"""Stopping endpoints: which ones and how long they may take in; what became of each, and what that freed, out.

Several at the same time, and each in its own time: requests in flight may finish. Prints nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.asking import access_to, own_key
from aim_engine.deploy.docker import guarded
from aim_engine.deploy.endpoints import Endpoint, endpoint_of
from aim_engine.deploy.looking import look
from aim_engine.deploy.reach import Vantage
from aim_engine.deploy.secrets import remove_secrets
from aim_engine.errors import AimError

if TYPE_CHECKING:
    from docker import DockerClient

# 128 + SIGINT, SIGKILL, SIGTERM: it ended before its requests had
_CUT_SHORT = (130, 137, 143)
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What became of one. `exit_code` is None where nobody can say it any more; `error` where it could not be
    stopped. `cut_short` is True where requests in flight may have been lost.
    """

    endpoint: Endpoint
    was_running: bool
    exit_code: int | None
    removed: bool
    cut_short: bool
    seconds: float
    error: AimError | None = None

    @property
    def code(self) -> int:
        """The exit code that says it."""
        if self.error is not None:
            return self.error.code
        return 143 if self.cut_short else 0

    @property
    def freed(self) -> str:
        """`4 GPUs (0000:05:00.0, ...), ports 8000, 8080`: what others may have now."""
        if self.error is not None or not (self.was_running or self.removed):
            return ""
        gpus, count = self.endpoint.gpus, self.endpoint.gpu_count
        ports = [str(port) for port in self.endpoint.published]
        parts = []
        if count:
            parts.append(f"{count} GPU{'s' * (count != 1)}" + (f" ({', '.join(gpus)})" if gpus else ""))
        if ports:
            parts.append(f"port{'s' * (len(ports) != 1)} {', '.join(ports)}")
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        one = self.endpoint
        return {
            "name": one.name,
            "container_id": one.container_id,
            "model": one.model,
            "was_running": self.was_running,
            "exit_code": self.exit_code,
            "removed": self.removed,
            "cut_short": self.cut_short,
            "seconds": round(self.seconds, 3),
            "log_file": one.log_file,
            "freed": {
                "gpu_count": one.gpu_count,
                "gpus": list(one.gpus),
                "ports": list(one.published),
            },
            "error": self.error.as_json() if self.error else None,
        }


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One that is being stopped; `requests` in flight is None where it does not say."""

    name: str
    seconds: float
    allowed_seconds: int
    requests: int | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def stop_all(
    client: DockerClient,
    endpoints: Iterable[Endpoint],
    *,
    seconds: int | None,
    keep: bool,
    environment: Mapping[str, str],
    vantage: Vantage | None = None,
    on_progress: Callable[[list[Progress]], None] = lambda _: None,
) -> list[Stopped]:
    """Stop and, unless they are kept, remove all of them at the same time."""
    own_key(environment)  # one that cannot be sent is said before anything is stopped
    wanted = list(endpoints)
    done: dict[int, Stopped] = {}
    failures: list[Exception] = []

    def work(index: int, one: Endpoint) -> None:
        try:
            done[index] = stop(client, one, seconds=seconds, keep=keep, environment=environment)
        except Exception as error:  # a bug, raised below where somebody can see it
            failures.append(error)

    # daemons: ^C ends the waiting, and Docker goes on with what it was asked
    threads = [threading.Thread(target=work, args=each, daemon=True) for each in enumerate(wanted)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        _join(threads, _PROGRESS_SECONDS)
        waiting = [one for index, one in enumerate(wanted) if index not in done]
        if waiting:
            on_progress([_progress(one, begun, seconds, environment, vantage or Vantage()) for one in waiting])
    if failures:
        raise failures[0]
    return [done[index] for index in range(len(wanted))]


def _join(threads: list[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _progress(
    endpoint: Endpoint, begun: float, seconds: int | None, environment: Mapping[str, str], vantage: Vantage
) -> Progress:
    allowed = endpoint.stop_seconds if seconds is None else seconds
    counters = look(vantage.reach(endpoint), access_to(endpoint, environment), seconds=1.0).counters
    known = counters.running is not None or counters.waiting is not None
    requests = int((counters.running or 0) + (counters.waiting or 0)) if known else None
    return Progress(name=endpoint.name, seconds=time.monotonic() - begun, allowed_seconds=allowed, requests=requests)


def stop(
    client: DockerClient, endpoint: Endpoint, *, seconds: int | None, keep: bool, environment: Mapping[str, str]
) -> Stopped:
    """Stop one, and remove it and its secrets unless it is kept. A refusal of Docker's is in the result, for the
    others' sake.
    """
    begun = time.monotonic()
    ended, removed, error = endpoint, False, None
    try:
        ended = _stopped(client, endpoint, endpoint.stop_seconds if seconds is None else seconds)
        removed = not keep and _removed(client, endpoint)
        if removed and endpoint.secrets:
            remove_secrets(environment, endpoint.secrets)
    except AimError as caught:
        error = caught
    return Stopped(
        endpoint=endpoint,
        was_running=endpoint.is_running,
        exit_code=ended.exit_code,
        removed=removed,
        cut_short=endpoint.is_running and ended.exit_code in _CUT_SHORT,
        seconds=time.monotonic() - begun,
        error=error,
    )


def _stopped(client: DockerClient, endpoint: Endpoint, seconds: int) -> Endpoint:
    """The container after its end; as it was where somebody else removed it (or it was started with --rm)."""
    from docker.errors import NotFound

    with guarded(f"stop {endpoint.name}"):
        try:
            if endpoint.is_running:
                client.api.stop(endpoint.container_id, timeout=seconds)
            return endpoint_of(client.api.inspect_container(endpoint.container_id))
        except NotFound:
            return endpoint


def _removed(client: DockerClient, endpoint: Endpoint) -> bool:
    from docker.errors import APIError, NotFound

    with guarded(f"remove {endpoint.name}"):
        try:
            client.api.remove_container(endpoint.container_id)
        except NotFound:
            return True
        except APIError as error:
            if "already in progress" not in str(error.explanation):
                raise
    return True
