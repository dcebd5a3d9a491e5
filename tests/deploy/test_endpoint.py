"""Waiting, checking, asking and measuring one endpoint, over real HTTP and a stand-in Docker Engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from aim_engine.deploy import endpoint as endpoints_functions
from aim_engine.deploy.endpoint import monitor_performance, perform_health_check, wait_for_endpoint_ready
from aim_engine.deploy.endpoints import endpoint_of
from aim_engine.errors import (
    AimError,
    DockerError,
    EndpointError,
    EngineCrashedError,
    EngineRefusedError,
    EngineStartTimeoutError,
    ModelAccessError,
)
from tests.deploy.running import READY, Answering, FakeDocker, ended, endpoint

Start = Callable[[dict[str, Any]], Answering]
GATED = ModelAccessError("the model is gated", hint="set HF_TOKEN")


def waited(client: Any, container: dict[str, Any], seconds: float = 5.0) -> tuple[Any, list[tuple[str, str]]]:
    phases: list[tuple[str, str]] = []
    found = wait_for_endpoint_ready(endpoint_of(container), client, seconds, lambda *said: phases.append(said))
    return found, phases


def test_phases_are_told_once_each_until_it_is_ready(answering: Start, fake_docker: FakeDocker, client: Any) -> None:
    said = iter(["starting", "loading", "loading", "probing"])
    timeline = [{"phase": "loading", "at": 1.0, "seconds": 2.0}]

    def status(_: Any) -> Any:
        phase = next(said, "")
        return {"phase": phase, "ready": False, "live": True} if phase else {**READY, "timeline": timeline}

    sidecar = answering({"/status": status})
    found, phases = waited(client, fake_docker.add(ports=(None, sidecar.port)))
    assert [phase for phase, _ in phases] == ["starting", "loading", "probing", "ready"]
    assert found.phases == tuple(timeline)
    assert 0 < found.seconds < 5


def test_a_container_without_a_health_port_is_ready_when_docker_says_so(fake_docker: FakeDocker, client: Any) -> None:
    container = fake_docker.add(state={"Health": {"Status": "starting"}})
    looks = iter(["starting", "starting", "healthy"])
    fake_docker.on_inspect = lambda one: one["State"].update(Health={"Status": next(looks, "healthy")})
    _, phases = waited(client, container)
    assert [phase for phase, _ in phases] == ["starting", "healthy"]


def test_an_end_while_it_starts_is_noticed_at_once_with_its_class_and_words(
    answering: Start, fake_docker: FakeDocker, client: Any
) -> None:
    sidecar = answering({"/status": {"phase": "loading", "ready": False}})
    log = ((2, "error: the model is gated\n"), (2, json.dumps(GATED.as_json()) + "\n"))
    container = fake_docker.add(ports=(None, sidecar.port), log=log)
    looks = iter(range(3))

    def end(one: dict[str, Any]) -> None:
        if next(looks, None) is None:
            one["State"] |= ended(40)

    fake_docker.on_inspect = end
    begun = time.monotonic()
    with pytest.raises(ModelAccessError, match="the model is gated") as caught:
        waited(client, container, 60)
    assert caught.value.hint == "set HF_TOKEN"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("state", "log", "kind", "words"),
    [
        (ended(137, OOMKilled=True), "", EngineCrashedError, r"exit code 137 \(SIGKILL; it took more memory"),
        (
            ended(137),
            "10:00 aim SIGTERM: requests in flight may finish, for up to 60 s\n",
            EngineCrashedError,
            r"killed while requests in flight still ran: exit code 137 \(SIGKILL\)",
        ),
        (
            ended(127, Error="exec: \x1b no such file"),
            "",
            DockerError,
            "its command is not there; exec: \ufffd no such",
        ),
        (ended(50), "not JSON\n{broken\n", EngineRefusedError, "exit code 50"),
        (ended(1), "Traceback\nKeyError: 1\n", EngineCrashedError, "exit code 1"),
        # the words of an earlier run do not explain this one
        (ended(139), json.dumps(GATED.as_json()) + "\n", EngineCrashedError, r"139 \(SIGSEGV\)"),
        (
            ended(0),
            json.dumps({"code": 0, "message": "stopped as SIGTERM asked"}),
            EndpointError,
            "stopped before it was",
        ),
        (ended(40), json.dumps(GATED.as_json()) + "\nsomething later\n", ModelAccessError, "gated"),
    ],
)
def test_every_kind_of_end(
    fake_docker: FakeDocker, client: Any, state: Any, log: str, kind: type[AimError], words: str
) -> None:
    lines = tuple((2, f"{line}\n") for line in log.splitlines())
    with pytest.raises(kind, match=words):
        waited(client, fake_docker.add(state=state, log=lines))


def test_the_last_lines_stand_in_where_there_are_no_words(fake_docker: FakeDocker, client: Any) -> None:
    with pytest.raises(EngineCrashedError) as caught:
        waited(client, fake_docker.add(state=ended(1), log=((2, "one\x1b[31m\n"), (2, "two\n"))))
    assert caught.value.details == ("one\ufffd[31m", "two")


def test_one_that_is_removed_meanwhile(fake_docker: FakeDocker, client: Any) -> None:
    container = fake_docker.add()
    del fake_docker.containers[container["Id"]]
    with pytest.raises(EndpointError, match="aim-one is gone"):
        waited(client, container)


def test_a_permanent_failure_that_docker_would_repeat_ends_the_wait(fake_docker: FakeDocker, client: Any) -> None:
    log = ((2, json.dumps(GATED.as_json()) + "\n"),)
    container = fake_docker.add(log=log, state={"Status": "restarting", "ExitCode": 40})
    with pytest.raises(ModelAccessError):
        waited(client, container)


def test_a_crash_that_docker_repeats_is_waited_for(answering: Start, fake_docker: FakeDocker, client: Any) -> None:
    log = ((2, json.dumps(EngineCrashedError("it crashed").as_json()) + "\n"),)
    sidecar = answering({"/status": READY})
    container = fake_docker.add(log=log, state={"Status": "restarting"}, ports=(None, sidecar.port))
    looks = iter(range(2))

    def recover(one: dict[str, Any]) -> None:
        if next(looks, None) is None:
            one["State"] |= {"Status": "running"}
            one["RestartCount"] = 1

    fake_docker.on_inspect = recover
    _, phases = waited(client, container)
    assert [phase for phase, _ in phases] == ["restarting", "ready"]


def test_a_failure_that_is_kept_alive_ends_the_wait(answering: Start, fake_docker: FakeDocker, client: Any) -> None:
    attempt = {"number": 1, "ended": 5.0, "failure": EngineRefusedError("unknown option").as_json()}
    sidecar = answering({"/status": {"phase": "failed", "ready": False, "attempts": [attempt]}})
    with pytest.raises(EngineRefusedError, match="unknown option"):
        waited(client, fake_docker.add(ports=(None, sidecar.port)))


def test_a_slow_start_says_where_it_stands(answering: Start, fake_docker: FakeDocker, client: Any) -> None:
    sidecar = answering({"/status": {"phase": "loading", "reason": "shard 1 of 9"}})
    with pytest.raises(EngineStartTimeoutError, match=r"not ready after 0.5 s: it is loading \(shard 1 of 9\)"):
        waited(client, fake_docker.add(ports=(None, sidecar.port)), 0.5)


def test_a_port_that_never_answers(fake_docker: FakeDocker, client: Any) -> None:
    with pytest.raises(EndpointError, match=r"has not answered for 0\.5 s: Connection refused"):
        waited(client, fake_docker.add(ports=(None, 1)), 0.5)


def test_a_health_check(answering: Start) -> None:
    sidecar = answering({"/status": READY})
    assert perform_health_check(endpoint(ports=(None, sidecar.port))).ready
    assert perform_health_check(endpoint(ports=(None, 1))).word == "no answer"


# --- asking it something ---------------------------------------------------------------------------------------------

MODELS = {"data": [{"id": "served/name"}]}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


def chat(text: str) -> Any:
    return lambda body: {"choices": [{"message": {"content": text}}], "usage": USAGE, "model": body["model"]}


def asked(server: Answering, key: str | None = None) -> Any:
    return endpoints_functions.test_inference(endpoint(ports=(server.port, None)), key)


def test_it_is_asked_as_a_chat_under_the_name_it_gives_itself(answering: Start) -> None:
    bodies = []

    def answer(body: Any) -> Any:
        bodies.append(body)
        return {"choices": [{"message": {"content": "Hello\x1b[2J"}}], "usage": USAGE}

    server = answering({"/v1/models": MODELS, "/v1/chat/completions": answer})
    found = asked(server, "s3cret")
    assert bodies[0]["model"] == "served/name"
    assert (found.text, found.prompt_tokens, found.completion_tokens) == ("Hello\ufffd[2J", 9, 4)
    assert 0 < found.latency_seconds < 5
    assert all(headers["Authorization"] == "Bearer s3cret" for _, _, headers in server.asked)
    assert "s3cret" not in json.dumps(found.as_json())


def test_a_model_without_a_chat_template_is_asked_for_a_completion(answering: Start) -> None:
    refusal = (400, {"error": {"message": "no chat template"}})
    completion = {"choices": [{"text": " there"}], "usage": USAGE}
    server = answering({"/v1/models": MODELS, "/v1/chat/completions": refusal, "/v1/completions": completion})
    found = asked(server)
    assert (found.route, found.text) == ("/v1/completions", " there".strip())


def test_reasoning_counts_as_an_answer(answering: Start) -> None:
    message = {"message": {"content": None, "reasoning_content": "Hmm"}}
    server = answering({"/v1/models": MODELS, "/v1/chat/completions": {"choices": [message]}})
    found = asked(server)
    assert (found.text, found.completion_tokens) == ("Hmm", None)


@pytest.mark.parametrize(
    ("routes", "words", "hint"),
    [
        ({"/v1/models": (401, {})}, "asks for an API key", "AIM_API_KEY"),
        ({"/v1/models": {"data": []}}, "does not say which model", "/v1/models"),
        ({"/v1/models": MODELS, "/v1/chat/completions": (503, {"error": {"message": "busy"}})}, "503: busy", "logs"),
        ({"/v1/models": MODELS, "/v1/chat/completions": {"choices": []}}, "no answer", "log"),
    ],
)
def test_what_is_no_answer(answering: Start, routes: dict[str, Any], words: str, hint: str) -> None:
    with pytest.raises(EndpointError, match=words) as caught:
        asked(answering(routes))
    assert hint in caught.value.hint


def test_nobody_there_and_no_port() -> None:
    with pytest.raises(EndpointError, match=r"does not answer at http://127\.0\.0\.1:1: Connection refused"):
        endpoints_functions.test_inference(endpoint(ports=(1, None)), None)
    with pytest.raises(EndpointError, match="not published"):
        endpoints_functions.test_inference(endpoint(), None)


def test_performance_between_two_looks(answering: Start) -> None:
    counted = iter((0, 50))
    metrics = "vllm:num_requests_running 2\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc 0.25\n"
    api = answering({"/metrics": lambda _: f"{metrics}vllm:generation_tokens_total {next(counted)}\n"})
    sidecar = answering({"/status": READY})
    found = monitor_performance(endpoint(ports=(api.port, sidecar.port)), 0.5)
    assert (found.requests_running, found.requests_waiting, found.kv_cache_usage) == (2, 1, 0.25)
    assert found.rates is not None
    assert found.rates.tokens_per_second == pytest.approx(100, rel=0.4)


def test_performance_of_one_that_is_not_ready(answering: Start) -> None:
    sidecar = answering({"/status": {"phase": "loading"}})
    with pytest.raises(EndpointError, match="is not ready: loading"):
        monitor_performance(endpoint(ports=(None, sidecar.port)), 0.1)
