"""Whose container the lock's name is on: a dead launch's lock is removed, a stranger's container never."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.deploy.launch_lock import _LABEL, NAME, launch_lock
from aim_engine.errors import DockerError
from tests.deploy.running import FakeDocker

OLD = "2020-01-01T00:00:00.000000000Z"
NOW = {"SystemTime": "2024-01-01T00:00:00.000000000Z"}


@pytest.fixture
def taken(fake_docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An engine that has this container under the lock's name, and makes another one once that is gone."""
    real = fake_docker.answer

    def answer(method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, str, bytes]:
        if path.endswith("/info"):
            return 200, "application/json", str(NOW).replace("'", '"').encode()
        if path.endswith("/containers/create"):
            is_there = any(one["Name"] == f"/{NAME}" for one in fake_docker.containers.values())
            return (409, "application/json", b'{"message": "in use"}') if is_there else (201, "application/json",
                                                                                        b'{"Id": "new"}')  # fmt: skip
        return real(method, path, query, body)

    monkeypatch.setattr(fake_docker, "answer", answer)

    def make(status: str, labels: dict[str, str]) -> dict[str, Any]:
        found = fake_docker.add(NAME, state={"Status": status}, Created=OLD)
        found["Config"]["Labels"] = labels
        return found

    return make


def test_a_dead_launch_s_lock_is_removed(taken: Any, fake_docker: FakeDocker, client: Any) -> None:
    left = taken("created", {_LABEL: "x"})
    with launch_lock(client, "image") as lock:
        assert lock.container_id == "new"
    assert left["Id"] not in fake_docker.containers
    assert not any("force=True" in path for method, path, _ in fake_docker.asked if left["Id"] in path)


@pytest.mark.parametrize(("status", "labels"), [
    ("running", {}), ("created", {}), ("exited", {"a": "b"}), ("running", {_LABEL: "x"}), ("paused", {_LABEL: "x"}),
])  # fmt: skip
def test_a_stranger_s_container_stays(
    taken: Any, fake_docker: FakeDocker, client: Any, status: str, labels: dict[str, str]
) -> None:
    stranger = taken(status, labels)
    with pytest.raises(DockerError, match=f"no lock has the name {NAME} .*{status}") as caught, \
            launch_lock(client, "image"):  # fmt: skip
        pytest.fail("it was taken")
    assert f"docker rename {NAME}" in caught.value.hint
    assert list(fake_docker.containers) == [stranger["Id"]]
