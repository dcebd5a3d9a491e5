"""Waiting for what a launch has started, over a stand-in Docker Engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aim_engine.deploy.launch_wait import ready_and_tested
from aim_engine.errors import AimError, EndpointError, EngineStartTimeoutError
from tests.deploy.running import Answering, FakeDocker, endpoint

SILENT_PORT = 1


def waited_for(client: Any, port: int, *, keep: bool) -> AimError:
    """What comes of a launch whose health port this is, and which is waited for half a second."""
    wishes = SimpleNamespace(timeout_seconds=0.5, keep=keep, replicas=1)
    job: Any = SimpleNamespace(wishes=wishes, judge=None)
    teller: Any = SimpleNamespace(begin=lambda _: None, progress=lambda *_: None)
    launched: Any = SimpleNamespace(endpoint=endpoint(ports=(None, port)), container_name="aim-one")
    with pytest.raises(AimError) as caught:
        ready_and_tested(client, job, teller, [launched])
    return caught.value


@pytest.mark.parametrize("expected", [EngineStartTimeoutError, EndpointError])
@pytest.mark.parametrize("keep", [False, True])
def test_one_that_is_removed_is_not_named_as_if_it_were_there(
    answering: Any, fake_docker: FakeDocker, client: Any, expected: type[AimError], keep: bool
) -> None:
    sidecar: Answering = answering({"/status": {"phase": "loading"}})
    port = sidecar.port if expected is EngineStartTimeoutError else SILENT_PORT
    fake_docker.add(ports=(None, port))
    error = waited_for(client, port, keep=keep)
    assert type(error) is expected
    assert ("aim-one" in error.hint, "it was removed" in error.hint) == (keep, not keep)
