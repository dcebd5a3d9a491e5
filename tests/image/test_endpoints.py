"""What runs on a real Docker Engine: small containers with our labels, and one real server that is listed, watched,
scraped and, under load, stopped.

Never `stop --all` here: the engine may be shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from aim_engine.deploy import endpoint as endpoint_functions
from aim_engine.deploy.asking import Access
from aim_engine.deploy.choosing import find_endpoint
from aim_engine.deploy.docker import connect
from aim_engine.deploy.endpoint import monitor_performance, wait_for_endpoint_ready
from aim_engine.errors import EndpointError, ModelAccessError
from tests.image.conftest import KEY, Start, serving
from tests.image.containers import Container, docker

pytestmark = pytest.mark.image

WORDS = ModelAccessError("the model is gated", hint="set HF_TOKEN").as_json()


def aim(*words: str, check: int | None = 0, seconds: float = 120, **environment: str) -> Any:
    """The command, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "aim_engine.cli.main", *words],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("AIM_")}, **environment},
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert check is None or done.returncode == check, done.stdout + done.stderr
    return done


def named(*more: str, **labels: str) -> tuple[str, list[str]]:
    """A new name, and the options of docker run that give it and our labels."""
    name = f"aim-engine-test-{uuid.uuid4().hex[:8]}"
    said = {"model": f"tests/{name}", **{key.replace("_", "-"): text for key, text in labels.items()}}
    return name, ["--name", name, *(f"--label=ai.aim-engine.{key}={text}" for key, text in said.items()), *more]


def shell(start: Start, script: str, *more: str, **labels: str) -> tuple[str, Container]:
    """A container with our labels that runs a script instead of a server."""
    name, options = named("--entrypoint", "/bin/sh", "--no-healthcheck", *more, **labels)
    return name, start("-c", script, options=options)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    found = connect(os.environ)
    yield found
    found.close()


# --- small ones ------------------------------------------------------------------------------------------------------


def test_one_that_was_run_by_hand_is_listed_with_what_docker_knows(start: Start) -> None:
    name, _ = shell(start, "sleep 60", "--publish", "127.0.0.1::8000", gpu_count="x", recipe="a\x1b[2Jb")
    (found,) = (one for one in json.loads(aim("list", "--json").stdout) if one["name"] == name)
    assert (found["state"], found["gpu_count"], found["recipe"]) == ("running", 0, "a\ufffd[2Jb")
    assert found["url"].startswith("http://127.0.0.1:")
    assert found["health_url"] is None


def test_a_plain_docker_run_is_an_endpoint_without_any_label(start: Start) -> None:
    name = f"aim-engine-test-{uuid.uuid4().hex[:8]}"
    container = start(options=["--name", name, "--publish", "127.0.0.1::8000", "--env", "AIM_MODEL=no/such-model"])
    code = container.wait()
    assert name not in aim("list").stdout
    found = json.loads(aim("status", name, "--json").stdout)
    assert (found["model"], found["exit_code"], found["ending"]["error"]["code"]) == ("no/such-model", code, code)
    aim("stop", name)
    assert name not in aim("list", "--all").stdout


def test_a_container_of_the_image_that_only_plans_is_no_endpoint(start: Start) -> None:
    name = f"aim-engine-test-{uuid.uuid4().hex[:8]}"
    start("detect", options=["--name", name]).wait()
    assert name not in aim("list", "--all").stdout


def test_the_last_words_of_one_that_has_ended(start: Start) -> None:
    name, container = shell(start, f"echo loading; echo '{json.dumps(WORDS)}' >&2; exit 40")
    container.wait()
    assert name not in aim("list").stdout
    ending = json.loads(aim("status", name, "--json").stdout)["ending"]
    assert (ending["exit_code"], ending["error"]["class"], ending["error"]["hint"]) == (
        40,
        "ModelAccess",
        "set HF_TOKEN",
    )


def test_an_end_while_it_is_waited_for_is_noticed_at_once(start: Start, client: Any) -> None:
    name, _ = shell(start, f"sleep 2; echo '{json.dumps(WORDS)}' >&2; exit 40")
    begun = time.monotonic()
    with pytest.raises(ModelAccessError, match="the model is gated"):
        wait_for_endpoint_ready(find_endpoint(client, name), client, 60)
    assert time.monotonic() - begun < 8


def test_a_permanent_failure_that_docker_repeats_is_not_waited_for(start: Start, client: Any) -> None:
    name, _ = shell(start, f"sleep 1; echo '{json.dumps(WORDS)}' >&2; exit 40", "--restart", "on-failure:9")
    with pytest.raises(ModelAccessError):
        wait_for_endpoint_ready(find_endpoint(client, name), client, 60)


def test_one_that_is_removed_while_it_is_waited_for(start: Start, client: Any) -> None:
    name, container = shell(start, "sleep 60")
    threading.Timer(1.0, lambda: docker("rm", "--force", container.id)).start()
    with pytest.raises(EndpointError, match=f"{name} is gone"):
        wait_for_endpoint_ready(find_endpoint(client, name), client, 60)


def test_logs_are_followed_until_it_ends_and_their_streams_kept_apart(start: Start) -> None:
    name, _ = shell(start, "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.5; done")
    done = aim("logs", name, "--follow", seconds=30)
    assert done.stdout == "out 1\nout 2\nout 3\n"
    assert done.stderr == "err 1\nerr 2\nerr 3\n"
    assert aim("logs", name, "--tail", "1").stderr + aim("logs", name, "--tail", "1").stdout in ("out 3\n", "err 3\n")
    assert aim("logs", name, "--since", "1h").stdout == done.stdout


def test_control_c_ends_only_the_following(start: Start) -> None:
    name, container = shell(start, "echo begun; sleep 60")
    argv = [sys.executable, "-m", "aim_engine.cli.main", "logs", name, "-f"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout
        assert following.stdout.readline() == "begun\n"
        following.send_signal(2)
        following.communicate(timeout=10)
    assert following.returncode == 130
    assert container.is_running


def test_stop_removes_and_a_stubborn_one_is_cut_short(start: Start) -> None:
    polite, _ = shell(start, "trap 'exit 0' TERM; sleep 60 & wait")
    stubborn, _ = shell(start, "trap '' TERM; sleep 60")
    done = aim("stop", polite, stubborn, "--timeout", "1", "--json", check=143)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert (found[polite]["exit_code"], found[polite]["cut_short"], found[polite]["removed"]) == (0, False, True)
    assert (found[stubborn]["exit_code"], found[stubborn]["cut_short"], found[stubborn]["removed"]) == (137, True, True)
    assert docker("ps", "--all", "--quiet", "--filter", f"name={polite}").stdout == ""


def test_stop_of_one_that_removes_itself(start: Start) -> None:
    name, _ = shell(start, "trap 'exit 0' TERM; sleep 60 & wait", "--rm")
    assert f"{name}: stopped" in aim("stop", name).stdout


def test_what_is_kept_starts_again(start: Start) -> None:
    name, container = shell(start, "trap 'exit 0' TERM; sleep 60 & wait")
    assert "kept" in aim("stop", name, "--keep").stdout
    assert not container.is_running
    assert aim("restart", name, "--detach").stdout.startswith(f"{name} was started again")
    assert container.is_running


# --- a real server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(image: str, tiny: Path, client: Any) -> Iterator[tuple[str, Container, list[str]]]:
    """Its name, the container, and the phases that were told until it was ready."""
    name, options = named(recipe="cpu-any-bf16", backend="vllm", precision="bf16", gpu_type="CPU")
    container = Container(image, options=serving(tiny, *options, "--env", f"AIM_API_KEY={KEY}"))
    phases: list[str] = []
    ready = wait_for_endpoint_ready(find_endpoint(client, name), client, 150, lambda phase, _: phases.append(phase))
    assert {"starting", "ready"} <= {one["phase"] for one in ready.phases}
    yield name, container, phases
    docker("rm", "--force", container.id, check=False)


def asking(container: Container) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{container.url(8000)}/v1", api_key=KEY, timeout=120, max_retries=0)


def streamed(container: Container, tokens: int, begun: threading.Event | None = None) -> tuple[int, str | None]:
    """How many tokens came, and how the last piece says it finished."""
    pieces = 0
    reason = None
    stream = asking(container).completions.create(
        model="/models/tiny", prompt="Tell me", max_tokens=tokens, stream=True, stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    for piece in stream:
        if begun is not None:
            begun.set()
        if piece.choices:
            reason = piece.choices[0].finish_reason
        if piece.usage is not None:
            pieces = piece.usage.completion_tokens
    return pieces, reason


def test_its_phases_were_told(served: tuple[str, Container, list[str]]) -> None:
    told = list(dict.fromkeys(served[2]))
    assert told == [one for one in ("planning", "starting", "loading", "probing", "ready") if one in told]
    assert {"starting", "loading", "ready"} <= set(told)


def test_it_is_asked_with_its_key_and_without(served: tuple[str, Container, list[str]], client: Any) -> None:
    found = endpoint_functions.test_inference(find_endpoint(client, served[0]), KEY)
    assert found.route == "/v1/chat/completions"
    assert found.completion_tokens
    assert found.text
    with pytest.raises(EndpointError, match="asks for an API key"):
        endpoint_functions.test_inference(find_endpoint(client, served[0]), None)


def test_status_knows_the_whole_plan(served: tuple[str, Container, list[str]]) -> None:
    found = json.loads(aim("status", served[0], "--json").stdout)
    assert found["health"]["word"] == "ready"
    assert found["plan"]["recipe_id"] == "cpu-any-bf16"
    assert [one["phase"] for one in found["status"]["timeline"]][-1] == "ready"
    text = aim("status", served[0]).stdout
    for words in ("cpu-any-bf16", "Phases", "Memory of one device", "weights"):
        assert words in text
    assert KEY not in text + json.dumps(found)


def test_its_speed_is_seen_under_load(served: tuple[str, Container, list[str]], client: Any) -> None:
    name, container, _ = served
    begun, enough = threading.Event(), threading.Event()

    def keep_busy() -> None:  # one long answer after another: how long one takes depends on the machine
        while not enough.is_set():
            streamed(container, 1500, begun)

    load = threading.Thread(target=keep_busy)
    load.start()
    try:
        assert begun.wait(60)
        looks = (aim("watch", "--once", "--json", AIM_API_KEY=KEY).stdout.splitlines() for _ in range(5))
        rows = (next(one for one in map(json.loads, look) if one["name"] == name) for look in looks)
        row = next(one for one in rows if one["running"])  # between two answers nothing runs for a moment
    finally:
        enough.set()
        load.join()
    assert (row["health"]["word"], row["running"]) == ("ready", 1)
    assert row["tokens_per_second"] > 1
    assert 0 < row["kv_cache_usage"] <= 1
    idle = monitor_performance(find_endpoint(client, name), 1.0, Access(key=KEY))
    assert idle.rates is not None
    assert idle.rates.tokens_per_second == 0


def test_an_orchestrator_in_a_container_reaches_it_by_its_own_address(
    served: tuple[str, Container, list[str]], image: str
) -> None:
    """The port is published on the host's loopback, which is not the orchestrator's."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://"):
        pytest.skip("the engine has no socket to mount")
    mount = f"{host.removeprefix('unix://')}:/var/run/docker.sock"
    done = docker("run", "--rm", "--volume", mount, image, "list", "--json")
    found = next(one for one in json.loads(done.stdout) if one["name"] == served[0])
    assert found["health"]["word"] == "ready"
    assert found["health"]["source"] == "sidecar"
    assert found["url"] == f"http://{found['networks']['bridge']}:8000"


def test_a_stop_under_load_loses_no_stream(served: tuple[str, Container, list[str]]) -> None:
    """The last of these tests: the container is gone then."""
    name, container, _ = served
    results: list[Any] = [None] * 3
    begun = [threading.Event() for _ in results]

    def ask(index: int) -> None:
        results[index] = streamed(container, 1200, begun[index])

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(results))]
    for thread in threads:
        thread.start()
    assert all(event.wait(60) for event in begun)
    ports = [int(container.url(inner).rpartition(":")[2]) for inner in (8000, 8080)]
    done = aim("stop", name, AIM_API_KEY=KEY)
    for thread in threads:
        thread.join()
    assert results == [(1200, "length")] * 3
    assert done.stdout.startswith(f"{name}: stopped after ")
    assert f"removed; freed ports {ports[0]}, {ports[1]}" in done.stdout
    assert "requests left" in done.stderr or "request left" in done.stderr
    assert docker("ps", "--all", "--quiet", "--no-trunc").stdout.find(container.id) == -1
