"""Which containers are ours, of those that a stand-in Docker Engine has."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.deploy.inside import ENTRYPOINT
from aim_engine.deploy.listing import list_endpoints
from tests.deploy.running import LABEL, FakeDocker, ended


def test_only_ours_are_listed_and_those_of_others_not_looked_at(fake_docker: FakeDocker, client: Any) -> None:
    fake_docker.add("aim-b")
    fake_docker.add("aim-a")
    fake_docker.add("aim-gone", state=ended(0))
    stranger = fake_docker.add("stranger")
    stranger["Config"]["Labels"] = {"ai.aim-engine-like.model": "x"}
    assert [one.name for one in list_endpoints(client, all=False)] == ["aim-a", "aim-b"]
    assert [one.name for one in list_endpoints(client, all=True)] == ["aim-a", "aim-b", "aim-gone"]
    assert not [path for _, path, _ in fake_docker.asked if stranger["Id"] in path]


@pytest.mark.parametrize("label", [{"gpus": "05:00.0"}, {"gpu-count": "8"}])
def test_one_that_says_it_has_gpus_is_ours_whatever_else_it_says(
    fake_docker: FakeDocker, client: Any, label: dict[str, str]
) -> None:
    one = fake_docker.add("g")
    one["Config"]["Labels"] = {LABEL + name: text for name, text in label.items()}
    assert [(found.name, found.model) for found in list_endpoints(client, all=False)] == [("g", "/models/tiny")]


@pytest.mark.parametrize(
    ("command", "listed"),
    [
        ([], True),
        (["serve", "--model", "x"], True),
        (["--model", "x"], True),
        (["plan", "x"], False),
        (["launch", "x"], False),
        (["bash"], False),
    ],
)
def test_one_of_a_plain_docker_run_is_known_by_its_image_and_its_command(
    fake_docker: FakeDocker, client: Any, command: list[str], listed: bool
) -> None:
    one = fake_docker.add("plain", environment=("AIM_MODEL=org/name",), Path=ENTRYPOINT, Args=command)
    one["Config"]["Labels"] = {f"{LABEL}image": "unified"}
    found = [(found.name, found.model, found.served_model) for found in list_endpoints(client, all=False)]
    assert found == ([("plain", "org/name", "org/name")] if listed else [])


def test_a_container_of_our_image_with_another_entrypoint_is_no_endpoint(fake_docker: FakeDocker, client: Any) -> None:
    one = fake_docker.add("plain", Path="/bin/sh", Args=[])
    one["Config"]["Labels"] = {f"{LABEL}image": "unified"}
    assert list_endpoints(client, all=False) == ()


def test_replicas_stand_together_in_the_order_of_their_numbers(fake_docker: FakeDocker, client: Any) -> None:
    for number in (10, 2, 1):
        fake_docker.add(f"m-{number}", labels={"replica-group": "m-1.0", "replica": str(number)})
    fake_docker.add("m-11")
    found = [(one.name, one.replica) for one in list_endpoints(client, all=True)]
    assert found == [("m-1", 1), ("m-2", 2), ("m-10", 10), ("m-11", None)]


def test_one_that_goes_away_meanwhile_is_left_out(fake_docker: FakeDocker, client: Any) -> None:
    gone = fake_docker.add("aim-gone")
    fake_docker.add("aim-stays")
    listed = FakeDocker._listed(gone)
    del fake_docker.containers[gone["Id"]]
    fake_docker._listed = lambda one: one if one is listed else FakeDocker._listed(one)  # type: ignore[method-assign]
    fake_docker._shown = lambda query: [listed, *fake_docker.containers.values()]  # type: ignore[method-assign]
    assert [one.name for one in list_endpoints(client, all=True)] == ["aim-stays"]
