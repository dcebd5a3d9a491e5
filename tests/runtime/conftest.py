"""Fixtures: runs of the real process tree around a fake engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .server import Server, fake_plan

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start runs; whatever they do, nothing is left of them afterwards. Arguments are those of `fake_plan`."""
    started: list[Server] = []

    def start(*arguments: str, environment: dict[str, str] | None = None, **runtime: Any) -> Server:
        server = Server(fake_plan(tmp_path, *arguments, **runtime), tmp_path, environment)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()
