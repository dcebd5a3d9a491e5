"""Containers that say of their GPUs too little, on a real Docker Engine: no launch takes a GPU that may be theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from aim_engine.deploy.allocation import allocate
from aim_engine.deploy.docker import connect
from aim_engine.deploy.listing import list_endpoints
from tests.building import MODEL
from tests.deploy.planning import with_nodes
from tests.image.private_commands import Start as StartCommand
from tests.image.private_engine import IMAGE, PrivateEngine

pytestmark = pytest.mark.image

HOST = with_nodes("MI300X:8")


@pytest.fixture
def client(private: PrivateEngine) -> Iterator[Any]:
    with closing(connect(private.environment)) as found:
        yield found


def created(private: PrivateEngine, name: str, *options: str) -> None:
    private.docker("create", "--network", "none", "--name", name, *options, IMAGE)


def test_labels_without_a_model_and_devices_without_labels(private: PrivateEngine, client: Any) -> None:
    created(private, "by-label", "--label", "ai.aim-engine.gpus=00:00.0, 01:00.0")
    created(private, "by-device", "--label", "ai.aim-engine.model=x", "--label", "ai.aim-engine.gpu-count=1",
            "--device", f"{HOST.gpus[5].render_node}")  # fmt: skip
    created(private, "stranger", "--device", f"{HOST.gpus[6].render_node}")
    found = allocate(HOST, list_endpoints(client, all=True))
    assert set(found.held) == {0, 1, 5}
    assert "the container by-label has it" in found.held[1]
    assert [text.split()[2] for text in found.cautions] == ["by-device"]


def test_a_launch_is_refused_until_the_container_that_says_too_little_is_gone(
    private: PrivateEngine, aim: StartCommand
) -> None:
    private.docker("run", "--detach", "--network", "none", "--name", "gg", "--label", "ai.aim-engine.model=x",
                   "--label", "ai.aim-engine.gpu-count=8", IMAGE)  # fmt: skip
    words = ("launch", MODEL, "--hardware", "MI300X:8", "--image", IMAGE, "--dry-run")
    refused = aim(*words).process
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 20, err
    assert "the container gg (x, running) says 8" in err
    assert "aim-engine stop gg" in err
    assert aim("stop", "gg").process.wait(60) == 0
    assert aim(*words).process.wait(60) == 0
