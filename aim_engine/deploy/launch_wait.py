"""Started endpoints in; the same when each is ready and has answered once, out: all at the same time, each step told.

The first that fails is the error. Starts and removes nothing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from aim_engine.deploy.docker import guarded
from aim_engine.deploy.endpoint import Readiness, test_inference, wait_for_endpoint_ready
from aim_engine.deploy.endpoints import Endpoint, endpoint_of
from aim_engine.deploy.launch_job import Job
from aim_engine.deploy.launched import Launched
from aim_engine.deploy.reach import Vantage, vantage
from aim_engine.errors import AimError

if TYPE_CHECKING:
    from docker import DockerClient

    from aim_engine.deploy.launch import Teller

# A start may take several attempts, which the container makes by itself and ends by itself; this is only for one that
# does neither.
_PATIENCE = 3

Result = TypeVar("Result")


def ready_and_tested(
    client: DockerClient, job: Job, teller: Teller, launched: Sequence[Launched]
) -> tuple[Launched, ...]:
    """Wait for all of them, and ask each one thing.

    Raises:
        AimError: one has ended, is not ready in time, or does not answer.
    """
    teller.begin("ready")
    place, board = vantage(client), _Board(teller, len(launched))
    found = together([partial(_ready, client, job, one, board.of(number), place)
                      for number, one in enumerate(launched, 1)])  # fmt: skip
    teller.end(f"after {max(one.seconds for one in found):.1f} s")
    ready = [
        replace(one, endpoint=_as_it_is_now(client, one), ready_seconds=readiness.seconds)
        for one, readiness in zip(launched, found, strict=True)
    ]
    if any(readiness.endpoint.url is None for readiness in found):
        teller.warn("the endpoint cannot be reached from here, so no request was tried")
        return tuple(ready)
    teller.begin("test")
    tested = together([partial(_tested, *pair) for pair in zip(ready, found, strict=True)])
    tests = [one.tested for one in tested if one.tested]
    slowest = max(one.latency_seconds for one in tests)
    teller.end(f"{sum(one.completion_tokens or 0 for one in tests)} tokens in {slowest:.2f} s")
    return tuple(tested)


def _ready(
    client: DockerClient, job: Job, launched: Launched, on_phase: Callable[[str, str], None], place: Vantage
) -> Readiness:
    limit = job.wishes.timeout_seconds or launched.plan.start_timeout_seconds * _PATIENCE
    try:
        return wait_for_endpoint_ready(launched.endpoint, client, limit, on_phase, vantage=place, judge=job.judge)
    except AimError as error:
        if launched.container_name in (error.hint or "") and not job.wishes.keep:  # names what is about to be removed
            error.hint = "it was removed; give it longer with --timeout, or leave it alone with --detach"
        if job.wishes.replicas > 1 and launched.container_name not in error.message:
            error.message = f"{launched.container_name}: {error.message}"
        raise


def _as_it_is_now(client: DockerClient, launched: Launched) -> Endpoint:
    with guarded("look at the container"):
        return endpoint_of(client.api.inspect_container(launched.container_id))


def _tested(launched: Launched, ready: Readiness) -> Launched:
    request = launched.plan.request
    certificate = str(request.tls_cert) if request.tls_cert else None
    return replace(launched, tested=test_inference(ready.endpoint, request.api_key, certificate=certificate))


class _Board:
    """What each of several is doing, told as one line whenever one of them says something new."""

    def __init__(self, teller: Teller, count: int) -> None:
        self._teller, self._said, self._writing = teller, [""] * count, threading.Lock()

    def of(self, number: int) -> Callable[[str, str], None]:
        """Whom the one of that number tells its phase and the reason for it."""

        def tell(phase: str, reason: str) -> None:
            with self._writing:
                alone = len(self._said) == 1
                self._said[number - 1] = f"{phase}: {reason}" if reason and alone else phase
                words = self._said if alone else [f"{one}: {said}" for one, said in enumerate(self._said, 1) if said]
                self._teller.progress(0, 0, ", ".join(words))

        return tell


def together(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Do all of them at the same time. The first failure is raised at once, and an interrupt too: the others, which
    are daemons, are not waited for.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    done: queue.SimpleQueue[tuple[int, Result | None, BaseException | None]] = queue.SimpleQueue()

    def work(index: int, task: Callable[[], Result]) -> None:
        try:
            done.put((index, task(), None))
        except BaseException as error:
            done.put((index, None, error))

    for each in enumerate(tasks):
        threading.Thread(target=work, args=each, daemon=True).start()
    results: dict[int, Result] = {}
    while len(results) < len(tasks):
        index, result, error = done.get()
        if error is not None:
            raise error
        results[index] = result  # type: ignore[assignment]
    return [results[index] for index in range(len(tasks))]
