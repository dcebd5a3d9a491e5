"""One launch at a time on one Docker Engine, whoever asks: a container's name is taken by one creator only.

In: a client and an image that is there. The lock is a container with a fixed name that is never started, so it also
holds between users, and between a host and a container that has the host's socket. Knows no plan.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.docker import guarded, hasten, in_one_piece
from aim_engine.errors import AimError, DockerError

if TYPE_CHECKING:
    from docker import DockerClient

NAME = "aim-engine-launch-lock"
_LABEL = "aim-engine-launch-lock.token"  # not one of an endpoint's
# What is done under the lock takes a second at most. Older than this its holder was killed, or is so slow that it will
# find its lock gone (`LaunchLock.check`) and give back what it took.
STALE_SECONDS = 30.0
_PATIENCE_SECONDS = 600.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.05, 0.5


class LockLostError(Exception):
    """Not for users: somebody took our lock for a dead launch's; what was decided under it must be decided again."""


@dataclass(frozen=True, kw_only=True)
class LaunchLock:
    """The lock, while we hold it."""

    client: Any
    container_id: str

    def check(self) -> None:
        """Ask the engine whether it is still ours. To be called after what it protects was done: whoever came in
        because it looked stale may have decided without knowing of that.

        Raises:
            LockLostError: it is not.
        """
        from docker.errors import NotFound

        with guarded("look at the lock of a launch"):
            try:
                self.client.api.inspect_container(self.container_id)
            except NotFound:
                raise LockLostError("the lock was lost") from None


@contextmanager
def launch_lock(
    client: DockerClient,
    image: str,
    *,
    on_wait: Callable[[], None] = lambda: None,
    stale_seconds: float = STALE_SECONDS,
) -> Iterator[LaunchLock]:
    """Hold the lock for the time of the block.

    Raises:
        DockerError: the engine refuses, others have held it for ten minutes, or a container that is no lock has its
            name.
    """
    token = uuid.uuid4().hex
    try:
        yield LaunchLock(client=client, container_id=_acquire(client, image, token, on_wait, stale_seconds))
    finally:
        _release(client, token)


def _acquire(client: DockerClient, image: str, token: str, on_wait: Callable[[], None], stale_seconds: float) -> str:
    deadline, pause = time.monotonic() + _PATIENCE_SECONDS, _FIRST_WAIT_SECONDS
    while (taken := _try(client, image, token)) is None:
        if time.monotonic() > deadline:
            raise DockerError(
                "other launches have held the lock for ten minutes", hint=f"if none is running: docker rm {NAME}"
            )
        on_wait()
        _remove_if_stale(client, stale_seconds)
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that those who wait do not ask in step
        pause = min(pause * 1.5, _LONGEST_WAIT_SECONDS)
    return taken


def _try(client: DockerClient, image: str, token: str) -> str | None:
    """The lock's id, or None where somebody else has it."""
    from docker.errors import APIError

    with guarded("take the lock of a launch"):
        try:
            made = in_one_piece(
                client,
                lambda: client.api.create_container(
                    image, command=["true"], name=NAME, labels={_LABEL: token}, network_disabled=True
                ),
            )
        except APIError as error:
            if error.status_code == 409:
                return None
            raise
    return str(made["Id"])


def _remove_if_stale(client: DockerClient, stale_seconds: float) -> None:
    """By the engine's own clock, and by id: a lock that was taken in the meantime is another one."""
    from docker.errors import APIError, NotFound

    with guarded("look at the lock of a launch"):
        try:
            found = client.api.inspect_container(NAME)
        except NotFound:
            return
        _check_is_a_lock(found)
        age = (_time(client.info()["SystemTime"]) - _time(found["Created"])).total_seconds()
        if age > stale_seconds:
            with suppress(APIError):  # another one that waits was quicker
                client.api.remove_container(found["Id"])  # not by force, which would end one that runs by now


def _check_is_a_lock(found: Mapping[str, Any]) -> None:
    """That the container of that name is a launch's, or was one until a moment ago; a lock is never started.

    Raises:
        DockerError: it is somebody's container, which is not ours to remove.
    """
    labels, state = found["Config"].get("Labels") or {}, found["State"]["Status"]
    if _LABEL not in labels or state not in ("created", "removing", "dead"):
        raise DockerError(
            f"a container that is no lock has the name {NAME} ({found['Id'][:12]}, {state}), which launches need",
            hint=f"docker rename {NAME} ANOTHER-NAME, or remove it if nobody needs it",
        )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _release(client: DockerClient, token: str) -> None:
    """By the token: an interrupted request may have made the lock and not told its id."""
    hasten(client)
    with suppress(AimError), guarded("release the lock of a launch"):
        in_one_piece(client, lambda: remove_labelled(client, _LABEL, token))


def remove_labelled(client: DockerClient, label: str, value: str) -> None:
    """Remove the containers that carry the label, running or not."""
    from docker.errors import APIError

    for found in client.api.containers(all=True, filters={"label": f"{label}={value}"}):
        with suppress(APIError):
            client.api.remove_container(found["Id"], force=True)
