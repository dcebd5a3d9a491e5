"""One launch from plan to tested endpoint: a client and a `Job` in, a `Launched` out, each step told as it goes.

Whatever goes wrong, ^C too, nothing half-made stays: what was created is removed again, unless it is to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from aim_engine.deploy.devices import holds_alone
from aim_engine.deploy.docker import guarded, hasten, in_one_piece, is_about_a_port
from aim_engine.deploy.docker_words import restart_policy
from aim_engine.deploy.images import is_here, pull
from aim_engine.deploy.launch_create import Created, create_alone, remove_all
from aim_engine.deploy.launch_decide import check_devices, decide_alone, decide_now
from aim_engine.deploy.launch_job import TOKEN, Decision, Job, Wishes
from aim_engine.deploy.launch_lock import remove_labelled
from aim_engine.deploy.launched import Launched
from aim_engine.deploy.limits import check_log_options, check_memory
from aim_engine.deploy.looking import seconds_since
from aim_engine.deploy.names import checked_image, checked_name, checked_network, checked_user, publish_address
from aim_engine.deploy.replicas import differences
from aim_engine.deploy.secrets import remove_secrets, secret_values, secrets_name
from aim_engine.deploy.spec import ContainerSpec
from aim_engine.errors import AimError
from aim_engine.plan import Plan
from aim_engine.request import Request

if TYPE_CHECKING:
    from docker import DockerClient

    from aim_engine.deploy.endpoints import Endpoint

_PORT_TRIES = 5
_UNSTARTED_SECONDS = 60.0  # from here on a container that was created and not started is nobody's
_WAITING = "waiting for another launch, which decides first"


class Teller(Protocol):
    """Who is told how it goes."""

    def begin(self, step: str) -> None:
        """A step begins; the one before has ended well."""

    def progress(self, done: int, total: int, words: str) -> None:
        """How far the step is; `total` 0 where nobody knows."""

    def end(self, words: str) -> None:
        """The step has ended well, and what came of it."""

    def warn(self, text: str) -> None:
        """Something that a person should know."""


def check_wishes(wishes: Wishes) -> None:
    """Everything typed that needs no engine to be judged.

    Raises:
        InputError: it cannot be used.
    """
    restart_policy(wishes.restart)
    checked_network(wishes.network)
    checked_user(wishes.user)
    check_memory(wishes.memory_bytes, wishes.memory_swap_bytes if wishes.memory_bytes is not None else None)
    check_log_options(wishes.log_options)
    if wishes.name is not None:
        checked_name(wishes.name)
    if wishes.image is not None:
        checked_image(wishes.image)


def launch(client: DockerClient, job: Job, teller: Teller) -> Launched:
    """Plan, create, start, and where it is wanted wait and test. Of several replicas the first, with all of them in it.

    Raises:
        AimError: something of that failed; nothing of it is left, of no replica.
    """
    teller.begin("plan")
    first = decide_now(client, job)
    for decision in first:
        check_devices(decision.plan, job.wishes.device_mode)
    teller.end(_in_short(first))
    cautions = [*first[0].allocation.cautions, *_cautions([decision.plan for decision in first])]
    for text in dict.fromkeys([*cautions, *_left_by_others(first[0])]):
        teller.warn(text)
    _fetch(client, first[0].spec.image, teller)
    with _nothing_left(client, job) as made:
        teller.begin("create")
        status = "running" if job.wishes.wait else "starting"
        launched = tuple(
            Launched(container_id=container, decision=decision, endpoint=_endpoint(client, container), status=status)
            for container, decision in _created_and_started(client, job, teller, made)
        )
        if job.wishes.wait:
            from aim_engine.deploy.launch_wait import ready_and_tested

            made.is_worth_keeping = True
            launched = ready_and_tested(client, job, teller, launched)
        return replace(launched[0], replicas=launched if len(launched) > 1 else ())


def _cautions(plans: Sequence[Plan]) -> Iterator[str]:
    """What a person should know of the plans, but for what the request has said already; and who may use the API."""
    for plan in plans:
        yield from plan.warnings[len(plan.request.warnings) :]
    yield from differences(plans)
    request = plans[0].request
    if request.api_key is None and publish_address(request.host) not in ("127.0.0.1", "[::1]"):
        ports = ", ".join(str(plan.request.port) for plan in plans)
        yield f"whoever reaches port {ports} may use the API: set AIM_API_KEY, or --host 127.0.0.1"


def _left_by_others(decision: Decision) -> Iterator[str]:
    """Containers that a launch which was killed has left: they keep their GPUs."""
    for one in decision.unstarted:
        if (seconds_since(one.created_at) or 0) > _UNSTARTED_SECONDS:
            yield f"{one.name} was created and never started: aim-engine stop {one.name} removes it"


def _in_short(decisions: Sequence[Decision]) -> str:
    plan = decisions[0].plan
    each = [", ".join(str(gpu.index) for gpu in one.plan.winner.gpus if holds_alone(gpu)) for one in decisions]
    many = f"{len(decisions)} x " if len(decisions) > 1 else ""
    gpus = f", GPU {' / '.join(each)}" if any(each) else ""
    return f"{many}{plan.recipe_id}, {plan.winner.recipe.precision}{gpus}"


def _fetch(client: DockerClient, image: str, teller: Teller) -> None:
    teller.begin("image")
    if is_here(client, image):
        teller.end(f"{image} is here")
        return
    pull(client, image, teller.progress)
    teller.end(f"{image} was pulled")


@dataclass(kw_only=True)
class _Made:
    """What this launch has made so far; only what was started is worth looking at after a failure."""

    names: list[str]
    is_worth_keeping: bool = False


@contextmanager
def _nothing_left(client: DockerClient, job: Job) -> Iterator[_Made]:
    """Whatever ends the block early, ^C too: remove what carries this launch's token, whose id may not be known."""
    made = _Made(names=[])
    try:
        yield made
    except BaseException as error:
        if job.wishes.keep and made.is_worth_keeping:
            error.add_note(f"--keep leaves {', '.join(dict.fromkeys(made.names))}")
        else:
            _remove(client, job, made, error)
        raise


def _remove(client: DockerClient, job: Job, made: _Made, error: BaseException) -> None:
    """Take all back; the error, or where it is none of ours its note, says what became of it."""
    names = dict.fromkeys(made.names)
    try:
        hasten(client)
        with guarded("remove what was created"):
            remove_labelled(client, TOKEN, job.token)
        if names:
            error.add_note("what was made is removed")
    except AimError:
        left = tuple(f"the container {one} may be left: aim-engine stop {one}" for one in names)
        if isinstance(error, AimError):
            error.details += left
        else:
            error.add_note("; ".join(left))
    for name in names:
        remove_secrets(job.environment, secrets_name(name, job.token))


def _created_and_started(client: DockerClient, job: Job, teller: Teller, made: _Made) -> tuple[Created, ...]:
    """Create and start; again with other ports where a program that is no container has one of those chosen."""
    avoid: frozenset[int] = frozenset()
    for attempt in range(_PORT_TRIES):
        told = replace(job, on_name=made.names.append, on_wait=partial(teller.progress, 0, 0, _WAITING))
        created = create_alone(client, told, avoid)
        teller.end(", ".join(decision.spec.name for _, decision in created))
        teller.begin("start")
        for container, decision in created:
            try:
                with guarded(f"start {decision.spec.name}"):
                    in_one_piece(client, partial(client.api.start, container))
            except AimError as error:
                chosen = _chosen_ports(decision.plan.request)
                if not is_about_a_port(error) or not chosen or attempt == _PORT_TRIES - 1:
                    raise
                remove_all(client, job, created)
                avoid |= chosen
                teller.warn(f"a port of {', '.join(map(str, sorted(chosen)))} is taken after all; others are tried")
                break
        else:
            teller.end(f"port {', '.join(str(decision.plan.request.port) for _, decision in created)}")
            return created
    raise AssertionError("the last attempt returns or raises")


def _chosen_ports(request: Request) -> frozenset[int]:
    """Those that nobody named."""
    names = (name for name in ("port", "health_port") if request.origins.get(name, "default") == "default")
    return frozenset(getattr(request, name) for name in names)


def _endpoint(client: DockerClient, container: str) -> Endpoint:
    from aim_engine.deploy.endpoints import endpoint_of

    with guarded("look at the container"):
        return endpoint_of(client.api.inspect_container(container))


def dry_run(client: DockerClient | None, job: Job) -> tuple[Decision, ...]:
    """What would be launched now, where there is an engine to ask; else by the plan alone. The containers are as a
    `docker run` of the caller's would make them: only secrets that are there are passed, and nothing marks a launch.

    Raises:
        AimError: nothing can be planned.
    """
    decisions = decide_alone(job) if client is None else decide_now(client, job)
    return tuple(replace(one, spec=_by_hand(one)) for one in decisions)


def _by_hand(decision: Decision) -> ContainerSpec:
    spec, given = decision.spec, secret_values(decision.plan.request)
    labels = {name: text for name, text in spec.labels.items() if name != TOKEN}
    return replace(spec, labels=labels, passed=tuple(one for one in spec.passed if one.name in given))
