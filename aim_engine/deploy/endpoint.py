"""One endpoint: is it ready, is it well, does it answer, how fast is it. An `Endpoint` in, a typed result out.

Asks over HTTP, and Docker whether the container still runs. Starts and ends nothing.
"""
# ruff: noqa: PT028 - test_inference is no test; the specification calls it so

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.asking import Access, Answer, ask
from aim_engine.deploy.counters import Rates
from aim_engine.deploy.docker import guarded
from aim_engine.deploy.ending import KILLED, ending_of, error_from_words, last_lines, last_words, removed
from aim_engine.deploy.endpoints import Endpoint, endpoint_of
from aim_engine.deploy.looking import FAILED, READY, SILENT, Health, Judge, Look, look, rates_between
from aim_engine.deploy.reach import Vantage
from aim_engine.errors import AimError, EndpointError, EngineStartTimeoutError

if TYPE_CHECKING:
    from docker import DockerClient

_STEP_SECONDS = 0.3
_INFERENCE_SECONDS = 120.0
_PROMPT = "Say hello."
_TOKENS = 16
_LOOKS_SECONDS = 1.0

OnPhase = Callable[[str, str], None]


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """`phases` are `{phase, at, seconds}` as the sidecar counts them; empty where only Docker could be asked."""

    endpoint: Endpoint
    seconds: float
    phases: tuple[Mapping[str, Any], ...] = ()


def wait_for_endpoint_ready(
    endpoint: Endpoint,
    client: DockerClient,
    timeout: float,
    on_phase: OnPhase = lambda _phase, _reason: None,
    *,
    vantage: Vantage | None = None,
    judge: Judge | None = None,
) -> Readiness:
    """Wait until it answers requests, and tell each phase and its reason as it comes. Whether it is ready is for the
    `judge` to say, where there is one; that it has ended or failed for good is noticed all the same.

    Raises:
        AimError: the container has ended: the class of its exit code, and its own last words.
        EndpointError: the container is gone, or nothing ever answered.
        EngineStartTimeoutError: it was not ready in time.
    """
    begun = time.monotonic()
    told: tuple[str, str] | None = None
    seen: Look | None = None
    answered = False
    while seen is None or time.monotonic() - begun < timeout:
        seen = _look_again(endpoint, client, vantage or Vantage(), judge)
        answered = answered or seen.health.word != SILENT
        said = _phase(seen, endpoint)
        if said != told:
            on_phase(*said)
            told = said
        if seen.health.ready:
            timeline = tuple(one for one in seen.status.get("timeline") or () if isinstance(one, Mapping))
            return Readiness(endpoint=seen.endpoint, seconds=time.monotonic() - begun, phases=timeline)
        _raise_if_given_up(seen, endpoint, client)
        time.sleep(min(_STEP_SECONDS, max(0.0, begun + timeout - time.monotonic())))
    raise _too_late(seen, timeout, answered)


def _look_again(endpoint: Endpoint, client: DockerClient, vantage: Vantage, judge: Judge | None) -> Look:
    """Docker is asked first, so that an end is noticed at once; its ports may be others after a restart."""
    inspected = _inspect(endpoint, client)
    return look(vantage.reach(endpoint_of(inspected)), Access(), count=False, judge=judge)


def _inspect(endpoint: Endpoint, client: DockerClient) -> Any:
    """What Docker says of it. Raises that it is gone where it is."""
    from docker.errors import NotFound

    with guarded("look at the container"):
        try:
            return client.api.inspect_container(endpoint.container_id)
        except NotFound:
            raise removed(endpoint) from None


def _phase(seen: Look, first: Endpoint) -> tuple[str, str]:
    state, health = seen.endpoint.state, seen.health
    if state == "restarting":
        return "restarting", f"it has ended, and Docker starts it again ({seen.endpoint.restarts} times so far)"
    if state != "running":
        return state, seen.endpoint.state_error
    if health.word == SILENT:  # the sidecar opens its port a moment after the container starts
        return "starting", "" if seen.endpoint.restarts == first.restarts else "Docker started it again"
    return health.phase or health.word, health.reason


def _raise_if_given_up(seen: Look, first: Endpoint, client: DockerClient) -> None:
    """Raise where waiting has no sense: it has ended for good, or will end in the same way each time."""
    endpoint = seen.endpoint
    if endpoint.state == "removing":
        raise error_from_words(last_words(last_lines(client, endpoint))) or removed(endpoint)
    if endpoint.state in ("exited", "dead"):
        ending = ending_of(client, endpoint)
        if endpoint.exit_code == KILLED:  # `docker rm --force` first kills, and then removes
            time.sleep(_STEP_SECONDS)
            _inspect(endpoint, client)
        raise ending.error or EndpointError(
            f"{endpoint.name} was stopped before it was ready: {ending.sentence}", hint="start it again"
        )
    if endpoint.state == "restarting" or endpoint.restarts > first.restarts:
        error = error_from_words(last_words(last_lines(client, endpoint)))
        if error is not None and not error.retryable:
            raise error
    if FAILED in (seen.health.word, seen.status.get("phase")):
        error = _failed_inside(seen)
        if error is not None:
            raise error


def _failed_inside(seen: Look) -> AimError | None:
    """With AIM_KEEP_ALIVE the container stays up after a failure that no further attempt follows."""
    attempts = [one for one in seen.status.get("attempts") or () if isinstance(one, Mapping)]
    if not attempts or attempts[-1].get("ended") is None:
        return None
    failure = attempts[-1].get("failure")
    return error_from_words(failure) if isinstance(failure, Mapping) else None


def _too_late(seen: Look, timeout: float, answered: bool) -> AimError:
    name, health = seen.endpoint.name, seen.health
    if not answered:
        return EndpointError(
            f"{name} runs, but its health port has not answered for {timeout:g} s: {health.reason}",
            hint=f"aim-engine logs {name} shows what it does",
        )
    why = f" ({health.reason})" if health.reason else ""
    return EngineStartTimeoutError(
        f"{name} was not ready after {timeout:g} s: it is {health.phase or health.word}{why}",
        hint=f"it goes on starting: aim-engine status {name}; give it longer with --timeout",
    )


def perform_health_check(endpoint: Endpoint) -> Health:
    """What its sidecar says now, or Docker where that cannot be asked; raises for none that is not well."""
    return look(endpoint, Access(), count=False).health


@dataclass(frozen=True, kw_only=True)
class InferenceTest:
    """One small request. `route` is the one that was understood; `note` says what to know about the connection."""

    route: str
    latency_seconds: float
    prompt_tokens: int | None
    completion_tokens: int | None
    text: str
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def test_inference(
    endpoint: Endpoint,
    api_key: str | None = None,
    *,
    prompt: str = _PROMPT,
    max_tokens: int = _TOKENS,
    timeout: float = _INFERENCE_SECONDS,
    certificate: str | None = None,
) -> InferenceTest:
    """Ask it one thing: as a chat, and where the model has no template for that, as a completion.

    Raises:
        EndpointError: it does not answer, or not as it should.
    """
    if endpoint.url is None:
        raise EndpointError(f"{endpoint.name} cannot be asked: its port is not published", hint="publish port 8000")
    access = Access(key=api_key, certificate=certificate)
    model = _served_name(endpoint, access, timeout)
    answer = Answer(status=0)
    for route, asked in _ways(model, prompt, max_tokens):
        answer = ask(f"{endpoint.url}{route}", seconds=timeout, access=access, body=asked)
        if answer.status == 200:
            return _tested(route, answer, access.note if endpoint.scheme == "https" else "")
        if answer.status not in (400, 404, 405, 500, 501):  # no way to chat with this model; others would not help
            break
    raise _refused(endpoint, answer)


def _served_name(endpoint: Endpoint, access: Access, timeout: float) -> str:
    """What the engine calls its model; it must be said in a request."""
    answer = ask(f"{endpoint.url}/v1/models", seconds=timeout, access=access)
    if answer.status != 200:
        raise _refused(endpoint, answer)
    value = answer.value
    models = value.get("data") if isinstance(value, Mapping) else None
    first = models[0] if isinstance(models, list) and models else None
    name = first.get("id") if isinstance(first, Mapping) else None
    if not isinstance(name, str):
        raise EndpointError(
            f"{endpoint.name} does not say which model it serves", hint=f"look at {endpoint.url}/v1/models"
        )
    return name


def _ways(model: str, prompt: str, max_tokens: int) -> Iterator[tuple[str, dict[str, Any]]]:
    settings = {"model": model, "max_tokens": max_tokens, "temperature": 0}
    yield "/v1/chat/completions", {**settings, "messages": [{"role": "user", "content": prompt}]}
    yield "/v1/completions", {**settings, "prompt": prompt}


def _tested(route: str, answer: Answer, note: str) -> InferenceTest:
    value = answer.value if isinstance(answer.value, Mapping) else {}
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else None
    if first is None:
        raise EndpointError("it answered 200 with something that is no answer", hint="its log may say more")
    message = first.get("message")
    said = message if isinstance(message, Mapping) else first
    usage = value.get("usage") if isinstance(value.get("usage"), Mapping) else {}
    return InferenceTest(
        route=route,
        latency_seconds=round(answer.seconds, 4),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        # a reasoning model may not come to its answer in a few tokens
        text=str(
            said.get("content") or said.get("text") or said.get("reasoning_content") or said.get("reasoning") or ""
        ),
        note=note,
    )


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _refused(endpoint: Endpoint, answer: Answer) -> EndpointError:
    if answer.status in (401, 403):
        return EndpointError(
            f"{endpoint.name} refused the request: it asks for an API key", hint="set AIM_API_KEY to the endpoint's key"
        )
    if answer.status == 0:
        return EndpointError(
            f"{endpoint.name} does not answer at {endpoint.url}: {answer.error}",
            hint=f"aim-engine status {endpoint.name} says how it is",
        )
    return EndpointError(
        f"{endpoint.name} answered {answer.status}: {_error_words(answer)}",
        hint=f"aim-engine logs {endpoint.name} may say more",
    )


def _error_words(answer: Answer) -> str:
    value = answer.value
    found = value.get("error", value) if isinstance(value, Mapping) else None
    text = found.get("message") if isinstance(found, Mapping) else found
    return str(text or "nothing")[:300]


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What an endpoint did while it was watched. `rates` is None where its counters cannot tell."""

    requests_running: float | None
    requests_waiting: float | None
    kv_cache_usage: float | None
    rates: Rates | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def monitor_performance(endpoint: Endpoint, seconds: float, access: Access | None = None) -> Performance:
    """Look at its counters twice, `seconds` apart.

    Raises:
        EndpointError: it does not answer.
    """
    before = look(endpoint, access or Access())
    if before.health.word != READY:
        raise EndpointError(
            f"{endpoint.name} is not ready: {before.health.word} {before.health.reason}".rstrip(),
            hint=f"aim-engine status {endpoint.name} says more",
        )
    time.sleep(max(seconds, 0.0))
    after = look(endpoint, access or Access())
    counters = after.counters
    return Performance(
        requests_running=counters.running,
        requests_waiting=counters.waiting,
        kv_cache_usage=counters.kv_cache_usage,
        rates=rates_between(before, after),
    )
