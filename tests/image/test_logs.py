"""A log of its own, on a real Docker Engine: the file holds what `docker logs` shows, across a restart, and has its
folder's owner; Docker's log is bounded.
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.image.conftest import Start
from tests.image.containers import LABEL, docker
from tests.image.test_endpoints import aim, named

pytestmark = pytest.mark.image

OWNER = 54321
KEY = "s3cret-of-the-logs"


@pytest.fixture(scope="module")
def launched(image: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Any]]:
    """Its name, the file, and what launch says; the folder is another user's, where we may give it away."""
    logs = tmp_path_factory.mktemp("logs")
    if os.geteuid() == 0:
        os.chown(logs, OWNER, OWNER)
    name = f"{LABEL}-logs-{uuid.uuid4().hex[:8]}"
    done = aim(
        "launch", str(tiny), "--hardware", "cpu", "--image", image, "--host", "127.0.0.1",
        "--port-range", "23200-23399", "--name", name, "--logs", str(logs), "--json", seconds=200, AIM_API_KEY=KEY,
        XDG_STATE_HOME=str(tmp_path_factory.mktemp("state")),
    )  # fmt: skip
    yield name, logs / f"{name}.log", json.loads(done.stdout)
    docker("rm", "--force", "--volumes", name, check=False)


def streams(name: str) -> tuple[list[str], list[str]]:
    """The lines of `docker logs`."""
    done = docker("logs", name)
    return done.stdout.split("\n")[:-1], done.stderr.split("\n")[:-1]


def compare(name: str, file: Path) -> list[str]:
    """The file's lines, if they are those of both streams and each stream's are in its order."""
    out, err = streams(name)
    found = file.read_text().split("\n")[:-1]
    assert sorted(found) == sorted([*out, *err])
    for lines in (out, err):
        assert [line for line in found if line in set(lines)] == lines
    return found


def test_docker_s_own_log_is_bounded(launched: tuple[str, Path, Any]) -> None:
    config = json.loads(docker("inspect", "--format", "{{json .HostConfig.LogConfig}}", launched[0]).stdout)
    assert config == {"Type": "json-file", "Config": {"max-size": "50m", "max-file": "5"}}


def test_its_file_is_told_and_is_its_folder_s_owner_s(launched: tuple[str, Path, Any]) -> None:
    name, file, said = launched
    assert said["log_file"] == str(file)
    assert str(file) in aim("status", name).stdout
    status = file.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (file.parent.stat().st_uid, 0o640)


def test_the_file_equals_docker_logs_and_goes_on_after_a_restart(launched: tuple[str, Path, Any]) -> None:
    """The last of these tests: it has been stopped then."""
    name, file, _ = launched
    aim("restart", name, seconds=200, AIM_API_KEY=KEY)
    docker("stop", "--time", "90", name)
    found = compare(name, file)
    assert len([line for line in found if line.endswith("aim boot: stopped: drained, exit code 0")]) == 2
    assert len([line for line in found if '"class": "Drained"' in line]) == 2
    assert any("aim plan: " in line for line in found)
    assert any("Application startup complete" in line for line in found)
    assert KEY not in "".join(found)
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_any_user_may_log_to_a_new_volume_and_a_refusal_is_there(
    image: str, start: Start, make_volume: Callable[[], str]
) -> None:
    logs = f"{make_volume()}:/workspace/logs"
    container = start(options=("--user", "54321:54321", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL",
                               "--volume", logs, "--env", "AIM_LOG_DIR=/workspace/logs", "--env", "AIM_MODEL=/none",
                               "--env", "AIM_HARDWARE=cpu"))  # fmt: skip
    assert container.wait() in (10, 40)
    written = docker("run", "--rm", "--volume", logs, image, "cat", "/workspace/logs/none-8000.log").stdout
    assert written.split("\n")[:-1] == streams(container.id)[1]
    assert json.loads(written.splitlines()[-1]) == container.words()


def test_where_docker_keeps_no_log_the_file_is_named(start: Start, tmp_path: Path) -> None:
    name, options = named(
        *(
            "--entrypoint",
            "/bin/sh",
            "--no-healthcheck",
            "--log-driver",
            "none",
            "--env",
            "AIM_LOG_DIR=/workspace/logs",
        ),
        *("--env", "AIM_LOG_NAME=mine", "--volume", f"{tmp_path}:/workspace/logs"),
    )
    start("-c", "sleep 60", options=options)
    done = aim("logs", name, check=60)
    assert f"{tmp_path}/mine.log" in done.stderr
