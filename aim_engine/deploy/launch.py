"""One launch from plan to tested endpoint: a client and a `Job` in, a `Launched` out, each step told as it goes.

Whatever goes wrong, ^C too, nothing half-made stays: what was created is removed again, unless it is to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from aim_engine.deploy.devices import holds_alone
from aim_engine.deploy.docker import guarded, is_about_a_port
from aim_engine.deploy.docker_words import restart_policy, run_line
from aim_engine.deploy.images import is_here, pull
from aim_engine.deploy.launch_create import create_alone, remove
from aim_engine.deploy.launch_decide import check_devices, decide_now, plan_of, spec_of
from aim_engine.deploy.launch_job import TOKEN, Decision, Job, Wishes
from aim_engine.deploy.launch_lock import remove_labelled
from aim_engine.deploy.launched import Launched
from aim_engine.deploy.names import checked_image, checked_name, checked_network, checked_user, publish_address
from aim_engine.deploy.reach import Vantage, vantage
from aim_engine.deploy.secrets import remove_secrets, secret_values
from aim_engine.errors import AimError, EngineStartTimeoutError
from aim_engine.plan import Plan

if TYPE_CHECKING:
    from docker import DockerClient

    from aim_engine.deploy.endpoints import Endpoint

_PORT_TRIES = 5
# A start may take several attempts, which the container makes by itself and ends by itself; this is only for one that
# does neither.
_PATIENCE = 3


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
    if wishes.name is not None:
        checked_name(wishes.name)
    if wishes.image is not None:
        checked_image(wishes.image)


def launch(client: DockerClient, job: Job, teller: Teller) -> Launched:
    """Plan, create, start, and where it is wanted wait and test.

    Raises:
        AimError: something of that failed; nothing of it is left.
    """
    teller.begin("plan")
    first = decide_now(client, job)
    check_devices(first.plan, job.wishes.device_mode)
    teller.end(_in_short(first))
    for text in _cautions(first.plan):
        teller.warn(text)
    _fetch(client, first.spec.image, teller)
    with _nothing_left(client, job) as made:
        teller.begin("create")
        container, decision = _created_and_started(client, job, teller, made)
        endpoint = _endpoint(client, container)
        if not job.wishes.wait:
            return Launched(container_id=container, decision=decision, endpoint=endpoint, status="starting")
        made.is_worth_keeping = True
        return _ready_and_tested(client, job, teller, Launched(
            container_id=container, decision=decision, endpoint=endpoint, status="running"))  # fmt: skip


def _cautions(plan: Plan) -> Iterator[str]:
    """What a person should know of the plan, but for what the request has said already; and who may use the API."""
    yield from plan.warnings[len(plan.request.warnings) :]
    if plan.request.api_key is None and publish_address(plan.request.host) not in ("127.0.0.1", "[::1]"):
        yield f"whoever reaches port {plan.request.port} may use the API: set AIM_API_KEY, or --host 127.0.0.1"


def _in_short(decision: Decision) -> str:
    plan = decision.plan
    gpus = ", ".join(str(gpu.index) for gpu in plan.winner.gpus if holds_alone(gpu))
    return f"{plan.recipe_id}, {plan.winner.recipe.precision}" + (f", GPU {gpus}" if gpus else "")


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
        if not (job.wishes.keep and made.is_worth_keeping):
            try:
                with guarded("remove what was created"):
                    remove_labelled(client, TOKEN, job.token)
            except AimError:
                if made.names and isinstance(error, AimError):
                    error.details += (f"the container {made.names[-1]} may be left: aim-engine stop {made.names[-1]}",)
            for name in made.names:
                remove_secrets(job.environment, name)
        raise


def _created_and_started(client: DockerClient, job: Job, teller: Teller, made: _Made) -> tuple[str, Decision]:
    """Create and start; again with other ports where a program that is no container has one of those chosen."""
    avoid: frozenset[int] = frozenset()
    for attempt in range(_PORT_TRIES):
        container, decision = create_alone(client, replace(job, on_name=made.names.append), avoid)
        teller.end(decision.spec.name)
        teller.begin("start")
        try:
            with guarded(f"start {decision.spec.name}"):
                client.api.start(container)
        except AimError as error:
            request = decision.plan.request
            chosen = {getattr(request, name) for name in ("port", "health_port")
                      if request.origins.get(name, "default") == "default"}  # fmt: skip
            if not is_about_a_port(error) or not chosen or attempt == _PORT_TRIES - 1:
                raise
            remove(client, container, job, decision.spec.name)
            avoid |= chosen
            teller.warn(f"a port of {', '.join(map(str, sorted(chosen)))} is taken after all; others are tried")
            continue
        teller.end(f"port {decision.plan.request.port}")
        return container, decision
    raise AssertionError("the last attempt returns or raises")


def _endpoint(client: DockerClient, container: str) -> Endpoint:
    from aim_engine.deploy.endpoints import endpoint_of

    with guarded("look at the container"):
        return endpoint_of(client.api.inspect_container(container))


def _ready_and_tested(client: DockerClient, job: Job, teller: Teller, launched: Launched) -> Launched:
    from aim_engine.deploy.endpoint import test_inference, wait_for_endpoint_ready

    plan = launched.decision.plan
    limit = job.wishes.timeout_seconds or plan.start_timeout_seconds * _PATIENCE
    teller.begin("ready")
    try:
        found = wait_for_endpoint_ready(launched.endpoint, client, limit, _phases(teller), vantage=vantage(client))
    except EngineStartTimeoutError as error:
        if not job.wishes.keep:  # or it would be said that it goes on
            error.hint = "it was removed; give it longer with --timeout, or leave it alone with --detach"
        raise
    teller.end(f"after {found.seconds:.1f} s")
    ready = replace(launched, endpoint=_endpoint(client, launched.container_id), ready_seconds=found.seconds)
    if found.endpoint.url is None:
        teller.warn("the endpoint cannot be reached from here, so no request was tried")
        return ready
    teller.begin("test")
    certificate = str(plan.request.tls_cert) if plan.request.tls_cert else None
    tested = test_inference(found.endpoint, plan.request.api_key, certificate=certificate)
    teller.end(f"{tested.completion_tokens} tokens in {tested.latency_seconds:.2f} s")
    return replace(ready, tested=tested)


def _phases(teller: Teller) -> Callable[[str, str], None]:
    def tell(phase: str, reason: str) -> None:
        teller.progress(0, 0, f"{phase}: {reason}" if reason else phase)

    return tell


def dry_run(client: DockerClient | None, job: Job) -> tuple[str, Decision]:
    """The `docker run` line of what would be launched now, where there is an engine to ask; else of the plan alone.

    Raises:
        AimError: nothing can be planned.
    """
    if client is not None:
        decision = decide_now(client, job)
    else:
        from aim_engine.deploy.allocation import allocate

        allocation = allocate(job.inventory, ())
        plan = plan_of(job, job.request, allocation)
        decision = Decision(plan=plan, allocation=allocation, spec=spec_of(job, plan, set(), None, Vantage()))
    spec = decision.spec
    labels: Mapping[str, str] = {name: text for name, text in spec.labels.items() if name != TOKEN}
    given = secret_values(decision.plan.request)
    passed = tuple(one for one in spec.passed if one.name in given)
    shown = replace(decision, spec=replace(spec, labels=labels, passed=passed))
    return run_line(shown.spec), shown
