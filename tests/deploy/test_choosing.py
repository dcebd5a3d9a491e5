"""Which endpoint is meant by a name, the beginning of an id, or a model."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.deploy.choosing import choose, find_endpoint
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
