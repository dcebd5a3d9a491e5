"""Stopping several at once, by a stand-in Docker Engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aim_engine.deploy.endpoints import endpoint_of
from aim_engine.deploy.secrets import secrets_folder
from aim_engine.deploy.stopping import Progress, Stopped, stop_all
from tests.deploy.running import READY, Answering, FakeDocker, ended

Start = Callable[[dict[str, Any]], Answering]


def stopped(client: Any, *containers: dict[str, Any], keep: bool = False, **more: Any) -> list[Stopped]:
    endpoints = [endpoint_of(one) for one in containers]
    return stop_all(client, endpoints, seconds=None, keep=keep, environment=more.pop("environment", {}), **more)


def ends_with(code: int, seconds: float = 0.0) -> Callable[[dict[str, Any]], None]:
    def end(container: dict[str, Any]) -> None:
        time.sleep(seconds)
        container["State"].update(ended(code))

    return end


def test_it_is_stopped_in_its_own_time_and_removed_and_what_it_freed_is_said(
    fake_docker: FakeDocker, client: Any
) -> None:
    labels = {"gpu-count": "2", "gpus": "0000:05:00.0,0000:06:00.0"}
    container = fake_docker.add(labels=labels, ports=(8000, 8080), environment=("AIM_DRAIN_TIMEOUT=300",))
    (found,) = stopped(client, container)
    assert (found.exit_code, found.removed, found.cut_short, found.code) == (0, True, False, 0)
    assert found.freed == "2 GPUs (0000:05:00.0, 0000:06:00.0), ports 8000, 8080"
    assert fake_docker.containers == {}
    assert next(path for _, path, _ in fake_docker.asked if "stop" in path).endswith("/stop?t=330")


def test_one_that_is_kept_stays(fake_docker: FakeDocker, client: Any) -> None:
    (found,) = stopped(client, fake_docker.add(), keep=True)
    assert (found.removed, len(fake_docker.containers)) == (False, 1)


def test_one_that_has_ended_is_only_removed(fake_docker: FakeDocker, client: Any) -> None:
    (found,) = stopped(client, fake_docker.add(state=ended(137)))
    assert (found.was_running, found.removed, found.code) == (False, True, 0)
    assert not [path for _, path, _ in fake_docker.asked if "/stop" in path]


@pytest.mark.parametrize(("exit_code", "code"), [(0, 0), (143, 143), (137, 143), (51, 0)])
def test_requests_that_were_cut_short_are_told(fake_docker: FakeDocker, client: Any, exit_code: int, code: int) -> None:
    fake_docker.on_stop = ends_with(exit_code)
    (found,) = stopped(client, fake_docker.add())
    assert (found.code, found.removed) == (code, True)


def test_several_are_stopped_at_the_same_time(fake_docker: FakeDocker, client: Any) -> None:
    fake_docker.on_stop = ends_with(0, seconds=0.6)
    begun = time.monotonic()
    found = stopped(client, *(fake_docker.add(f"aim-{index}") for index in range(6)))
    assert time.monotonic() - begun < 3.5
    assert [one.endpoint.name for one in found] == [f"aim-{index}" for index in range(6)]
    assert fake_docker.containers == {}


def test_progress_says_how_many_requests_are_left(answering: Start, fake_docker: FakeDocker, client: Any) -> None:
    api = answering({"/metrics": "vllm:num_requests_running 3\nvllm:num_requests_waiting 1\n"})
    sidecar = answering({"/status": {**READY, "phase": "draining", "ready": False}})
    fake_docker.on_stop = ends_with(0, seconds=1.8)
    told: list[list[Progress]] = []
    stopped(client, fake_docker.add(ports=(api.port, sidecar.port)), on_progress=told.append)
    assert told
    assert (told[0][0].requests, told[0][0].allowed_seconds) == (4, 90)


def test_one_that_somebody_else_removes_meanwhile_is_gone_all_the_same(fake_docker: FakeDocker, client: Any) -> None:
    fake_docker.on_stop = lambda container: fake_docker.containers.clear()
    (found,) = stopped(client, fake_docker.add())
    assert (found.error, found.removed, found.exit_code) == (None, True, None)


def test_a_refusal_does_not_hold_up_the_others(fake_docker: FakeDocker, client: Any) -> None:
    good, bad = fake_docker.add("good"), fake_docker.add("bad")
    answer = fake_docker.answer

    def refuse(method: str, path: str, query: Any, body: bytes) -> tuple[int, str, bytes]:
        if path.endswith(f"{bad['Id']}/stop"):
            return 500, "application/json", b'{"message": "driver is stuck"}'
        return answer(method, path, query, body)

    fake_docker.answer = refuse  # type: ignore[method-assign]
    first, second = stopped(client, good, bad)
    assert (first.code, second.code, second.freed) == (0, 60, "")
    assert second.error is not None
    assert "driver is stuck" in second.error.message
    assert list(fake_docker.containers) == [bad["Id"]]


def test_its_own_secrets_go_with_it_whatever_it_is_called_now(
    fake_docker: FakeDocker, client: Any, tmp_path: Path
) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path)}

    def made(name: str, folder: str, labels: dict[str, str]) -> dict[str, Any]:
        place = secrets_folder(environment, folder)
        place.mkdir(parents=True)
        mounts = [{"Source": str(place / "HF_TOKEN"), "Destination": "/run/secrets/HF_TOKEN"}]
        return fake_docker.add(name, labels=labels, Mounts=mounts)

    renamed = made("old", "k.1", {"secrets": "k.1"})
    made("k", "k.2", {"secrets": "k.2"})
    before_labels = made("once-j", "j", {})
    stopped(client, renamed, before_labels, environment=environment)
    stopped(client, made("kept", "kept.3", {"secrets": "kept.3"}), environment=environment, keep=True)
    stopped(client, fake_docker.add("k.2"), environment=environment)  # by hand, without secrets
    left = [path.name for path in secrets_folder(environment, "any").parent.iterdir()]
    assert sorted(left) == ["k.2", "kept.3"]


def test_a_bug_is_not_hidden(client: Any) -> None:
    with pytest.raises(AttributeError):
        stop_all(client, [None], seconds=1, keep=True, environment={})  # type: ignore[list-item]
