"""Fixtures: a stand-in Docker Engine with the real SDK's client, and endpoints' ports that answer as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aim_engine.deploy.docker import connect
from tests.deploy.running import Answering, FakeDocker


@pytest.fixture
def fake_docker() -> Iterator[FakeDocker]:
    server = FakeDocker()
    yield server
    server.close()


@pytest.fixture
def client(fake_docker: FakeDocker) -> Iterator[Any]:
    found = connect({"DOCKER_HOST": fake_docker.host})
    yield found
    found.close()


@pytest.fixture
def answering() -> Iterator[Callable[..., Answering]]:
    """Start a port that gives these answers: a path and its value each."""
    servers: list[Answering] = []

    def start(routes: dict[str, Any]) -> Answering:
        server = Answering()
        server.routes = routes
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()
