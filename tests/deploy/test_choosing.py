"""Which endpoints a person means."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.deploy.choosing import choose, choose_replicas, find_endpoint
from aim_engine.deploy.endpoints import Endpoint
from aim_engine.errors import InputError
from tests.deploy.running import FakeDocker, ended, endpoint


def test_a_name_an_id_and_a_model_find_it(fake_docker: FakeDocker, client: Any) -> None:
    fake_docker.add("aim-one", labels={"model": "Qwen/Qwen3-32B"})
    two = fake_docker.add("aim-two", labels={"model": "a/b"})
    assert find_endpoint(client, "aim-one").name == "aim-one"
    assert find_endpoint(client, two["Id"][:12]).name == "aim-two"
    assert find_endpoint(client, "qwen/qwen3-32b").name == "aim-one"


def test_an_ended_one_does_not_make_a_model_ambiguous() -> None:
    known = (endpoint("old", state=ended(1)), endpoint("new"))
    assert choose(known, "/models/tiny").name == "new"


def test_a_model_that_two_serve_names_both() -> None:
    with pytest.raises(InputError, match="any of 2: one, two") as caught:
        choose((endpoint("one"), endpoint("two")), "/models/tiny")
    assert caught.value.hint == "name one of them; stop takes them all with --replicas"


def test_a_name_that_is_none_gets_the_near_ones() -> None:
    known = (endpoint("aim-engine-qwen-4gpu"), endpoint("other", labels={"model": "x/y"}))
    with pytest.raises(InputError, match="there is no endpoint aim-engine-qwen-2gpu") as caught:
        choose(known, "aim-engine-qwen-2gpu")
    assert "did you mean aim-engine-qwen-4gpu?" in caught.value.hint
    with pytest.raises(InputError) as caught:
        choose((), "any\x1b[2J")
    assert "\x1b" not in caught.value.message
    assert "no container of AIM Engine is on this host" in caught.value.hint


def of_folder(name: str, folder: str, model: str = "tiny", **more: Any) -> Endpoint:
    mounts = [{"Type": "bind", "Source": folder, "Destination": "/models/tiny"}]
    return endpoint(name, labels={"model": model}, Mounts=mounts, **more)


def test_a_folder_is_meant_by_any_of_its_names_and_not_by_the_same_words_elsewhere() -> None:
    known = (of_folder("mine", "/home/me/tiny"), of_folder("other", "/srv/tiny"))
    assert choose(known, "./tiny", {"/srv/tiny"}).name == "other"
    assert choose(known, "tiny", {"/home/me/tiny"}).name == "mine"
    assert [one.name for one in choose_replicas(known, "../me/tiny", {"/home/me/tiny", "/data/tiny"})] == ["mine"]
    with pytest.raises(InputError, match="could be any of 2: mine, other"):
        choose(known, "tiny")
    with pytest.raises(InputError, match="there is no endpoint tiny"):
        choose_replicas(known, "tiny", {"/elsewhere/tiny"})
    # a name of the hub's may be a folder here, and what a container calls its model is absolute
    assert choose((endpoint("hub", labels={"model": "a/b"}),), "a/b", {"/elsewhere/a/b"}).name == "hub"
    assert choose((of_folder("by-hand", "/srv/x", model="/models/tiny"),), "/models/tiny", {"/models/tiny"})


def test_a_folder_s_endpoint_that_runs_is_meant_before_those_that_have_ended() -> None:
    known = (of_folder("old", "/srv/tiny", state=ended(1)), of_folder("new", "/srv/tiny"))
    assert choose(known, "/srv/tiny", {"/srv/tiny"}).name == "new"
