"""The containers of a launch, created alone: under the lock it is decided once more, and they are created. Starts
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from aim_engine.deploy.docker import guarded, in_one_piece, is_about_a_name
from aim_engine.deploy.docker_words import create_words
from aim_engine.deploy.folders import make_folders
from aim_engine.deploy.launch_decide import decide_now
from aim_engine.deploy.launch_job import Decision, Job
from aim_engine.deploy.launch_lock import LaunchLock, LockLostError, launch_lock
from aim_engine.deploy.secrets import (
    remove_secrets,
    secret_values,
    secrets_folder,
    secrets_name,
    with_secret_files,
    write_secrets,
)
from aim_engine.deploy.shared_files import shown_secrets
from aim_engine.deploy.spec import ContainerSpec
from aim_engine.errors import AimError, DockerError, InputError

if TYPE_CHECKING:
    from docker import DockerClient

_TRIES = 5

Created = tuple[str, Decision]  # a container's id, and what was decided of it


def create_alone(client: DockerClient, job: Job, avoid: frozenset[int] = frozenset()) -> tuple[Created, ...]:
    """Each container's id, and what was decided of it. No other launch on this engine decides at the same time.

    Raises:
        AimError: nothing can be planned, or the engine refuses.
    """
    image = decide_now(client, job, avoid)[0].spec.image
    for _ in range(_TRIES):
        try:
            with launch_lock(client, image, on_wait=job.on_wait) as lock:
                return _create_all(client, job, decide_now(client, job, avoid), lock)
        except LockLostError:
            continue
        except InputError as error:
            # somebody who is no launch took the name that was free a moment ago
            if job.wishes.name is not None or not is_about_a_name(error):
                raise
    raise DockerError("the container could not be created: others were quicker each time", hint="try again")


def _create_all(client: DockerClient, job: Job, decisions: Sequence[Decision], lock: LaunchLock) -> tuple[Created, ...]:
    """Create all of them, or none."""
    made: list[Created] = []
    try:
        for decision in decisions:
            made.append((_create(client, job, decision), decision))
            lock.check()
    except BaseException:
        remove_all(client, job, made)
        raise
    return tuple(made)


def remove_all(client: DockerClient, job: Job, made: Iterable[Created]) -> None:
    """Take back what was created."""
    for container, decision in made:
        remove(client, container, job, decision.spec.name)


def _create(client: DockerClient, job: Job, decision: Decision) -> str:
    """Create it, with its secrets as files where the engine sees ours, else in its environment."""
    spec, values, place = decision.spec, secret_values(decision.plan.request), decision.place
    job.on_name(spec.name)
    make_folders(decision.plan, spec.user, place)
    name = secrets_name(spec.name, job.token)
    folder = secrets_folder(job.environment, name)
    seen = place.on_host(folder)
    by_file = with_secret_files(spec, values, seen or folder)
    if by_file.passed == spec.passed:
        return create(client, spec, values)
    if seen is not None:
        write_secrets(folder, values)
        try:
            return create(client, by_file, values)
        except AimError as error:
            remove_secrets(job.environment, name)
            if str(seen) not in error.message:
                raise
        except BaseException:
            remove_secrets(job.environment, name)
            raise
    names = ", ".join(one.name for one in spec.passed if one not in by_file.passed)
    job.warn(shown_secrets(names, folder, place))
    return create(client, spec, values)


def create(client: DockerClient, spec: ContainerSpec, values: Mapping[str, str]) -> str:
    """Create the container and return its id. `values` are those of the variables that the spec only names.

    Raises:
        AimError: the engine refuses.
    """
    words = create_words(spec, values)
    with guarded("create the container"):
        host = client.api.create_host_config(**words.pop("host_config"))
        return str(in_one_piece(client, lambda: client.api.create_container(**words, host_config=host))["Id"])


def remove(client: DockerClient, container: str, job: Job, name: str) -> None:
    """Take back what was created: the container, and its secrets."""
    from docker.errors import NotFound

    with suppress(NotFound), guarded("remove the container"):
        client.api.remove_container(container, force=True, v=True)
    remove_secrets(job.environment, secrets_name(name, job.token))
