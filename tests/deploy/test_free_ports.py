"""Which ports an endpoint gets."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from aim_engine.deploy.free_ports import (
    listens_elsewhere,
    listens_here,
    ports_of_containers,
    with_free_ports,
    with_ports_of_each,
)
from aim_engine.errors import InputError
from aim_engine.request import Request, read_request
from tests.deploy.test_allocation import endpoint


def chosen(taken: dict[int, str] | None = None, busy: tuple[int, ...] = (), **flags: str) -> tuple[int, int]:
    def listens(request: Request, port: int) -> bool:
        return port in busy

    found = with_free_ports(
        read_request({"model": "a/b", **flags}, {}, ports_follow=True), taken or {}, listens=listens
    )
    return found.port, found.health_port


def test_the_first_of_each() -> None:
    assert chosen() == (8000, 8080)


def test_the_next_free_ones() -> None:
    assert chosen({8000: "x", 8001: "y", 8080: "z"}, busy=(8002,)) == (8003, 8081)


def test_80_endpoints_leave_the_sidecar_s_port_alone() -> None:
    assert chosen(dict.fromkeys(range(8000, 8080), "x")) == (8081, 8080)


def test_a_range_that_ends_before_8080() -> None:
    assert chosen(port_range="8700-8799") == (8700, 8701)
    assert chosen(dict.fromkeys(range(8000, 8009), "x"), port_range="8000-8010") == (8009, 8010)
    assert chosen(port="8700", port_range="8700-8799") == (8700, 8701)
    assert chosen(health_port="8700", port_range="8700-8799") == (8701, 8700)


def test_named_ones_are_taken_as_they_are() -> None:
    assert chosen(port="9000", health_port="9001") == (9000, 9001)
    assert chosen(port="8080") == (8080, 8081)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"port": "8000"}, "AIM_PORT=8000: the container x"),
        ({"health_port": "8000"}, "AIM_HEALTH_PORT=8000: the container x"),
        ({"port": "9000"}, "AIM_PORT=9000: another program"),
    ],
)
def test_a_named_port_that_is_taken(flags: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        chosen({8000: "x"}, busy=(9000,), **flags)
    assert "leave it out" in caught.value.hint


def test_a_range_that_is_full() -> None:
    with pytest.raises(InputError, match="no port from 8000-8001 is free"):
        chosen({8000: "x"}, port_range="8000-8001")


def test_an_orchestrator_that_publishes_the_whole_range_itself_is_named() -> None:
    """As the specification's docker run does."""
    with pytest.raises(InputError, match="11 of them are published by the container aim-engine-prod"):
        chosen(dict.fromkeys(range(8000, 8011), "aim-engine-prod"), port_range="8000-8010")


def each(count: int, taken: dict[int, str] | None = None, **flags: str) -> list[tuple[int, int]]:
    request = read_request({"model": "a/b", **flags}, {}, ports_follow=True)
    found = with_ports_of_each(request, count, taken or {}, listens=listens_elsewhere)
    return [(one.port, one.health_port) for one in found]


def test_replicas_have_ports_of_their_own() -> None:
    assert each(3) == [(8000, 8080), (8001, 8081), (8002, 8082)]
    assert each(2, {8000: "x", 8080: "x"}) == [(8001, 8081), (8002, 8082)]


def test_of_a_named_port_the_others_follow() -> None:
    assert each(3, port="9000") == [(9000, 8080), (9001, 8081), (9002, 8082)]
    assert each(2, port="9000", health_port="9100") == [(9000, 9100), (9001, 9101)]
    assert each(3, port="8079") == [(8079, 8082), (8080, 8083), (8081, 8084)]  # the sidecars keep out of their way


@pytest.mark.parametrize(
    ("count", "flags", "sentence"),
    [
        (3, {"port": "9000", "health_port": "9002"}, "3 ports from 9000 and 3 from 9002 overlap"),
        (3, {"port": "9002", "health_port": "9000"}, "3 ports from 9002 and 3 from 9000 overlap"),
        (3, {"port": "65534"}, "3 ports from there end beyond 65535"),
        (2, {"port": "7999"}, "AIM_PORT=8000: the container x"),
    ],
)
def test_ports_that_replicas_cannot_have(count: int, flags: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        each(count, {8000: "x"}, **flags)


def test_ports_of_running_containers_and_of_ours_that_were_created() -> None:
    listed: list[dict[str, Any]] = [
        {"Names": ["/web"], "Ports": [{"PublicPort": 80, "PrivatePort": 80}, {"PrivatePort": 9}]},
        {"Ports": None},
    ]
    created = endpoint(state="created")
    over = endpoint(state="exited")
    assert ports_of_containers(listed, [created, over]) == {80: "web"}


def test_what_listens_on_this_machine() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        request, port = read_request({"host": "127.0.0.1"}, {}), taken.getsockname()[1]
        assert listens_here(request, port)
        assert not listens_elsewhere(request, port)
    assert not listens_here(request, port)


@pytest.mark.parametrize("named", [{}, {"port": "8000"}])
def test_an_address_that_is_none_of_this_host(named: dict[str, str]) -> None:
    """203.0.113.0/24 is for documentation (RFC 5737)."""
    request = read_request({"model": "a/b", "host": "203.0.113.7", **named}, {}, ports_follow=True)
    with pytest.raises(InputError, match=r"AIM_HOST=203\.0\.113\.7 is not an address of this machine"):
        with_free_ports(request, {}, listens=listens_here)
