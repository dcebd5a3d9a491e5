"""The rendered compose file, started by a real compose: it becomes healthy, answers within its limits, and goes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.serving import free_ports
from tests.image.containers import LABEL, START_SECONDS, docker

pytestmark = pytest.mark.image

NAME = f"{LABEL}-compose"


def compose_program() -> list[str]:
    """Compose as docker's own subcommand, or as the older program of its own."""
    if docker("compose", "version", check=False).returncode == 0:
        return ["docker", "compose"]
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("neither docker compose nor docker-compose is here")
    return [program]


@pytest.fixture(scope="module")
def ports() -> list[int]:
    return free_ports(2)


@pytest.fixture(scope="module")
def up(image: str, tiny: Path, ports: list[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the container that `up` made from what `render` wrote."""
    folder = tmp_path_factory.mktemp("compose")
    file, cache = folder / "compose.yaml", folder / "cache"
    cache.mkdir()
    cache.chmod(0o777)  # in the container not even root has capabilities
    words = ["render", "compose", str(tiny), "--hardware", "cpu", "--image", image, "--name", NAME]
    words += ["--host", "127.0.0.1", "--port", str(ports[0]), "--health-port", str(ports[1]), "--output", str(file)]
    words += ["--cache-dir", str(cache)]
    subprocess.run([Path(sys.executable).with_name("aim-engine"), *words], check=True)
    compose = [*compose_program(), "--project-name", NAME, "--file", str(file)]
    try:
        subprocess.run([*compose, "up", "--detach"], check=True, capture_output=True, timeout=120)
        yield NAME
    finally:
        subprocess.run([*compose, "down"], check=False, capture_output=True, timeout=180)


def test_it_becomes_healthy_and_answers(up: str, ports: list[int]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while (health := docker("inspect", "--format", "{{.State.Health.Status}}", up).stdout.strip()) != "healthy":
        assert health == "starting", docker("logs", up).stderr[-3000:]
        assert time.monotonic() < deadline, docker("logs", up).stderr[-3000:]
        time.sleep(1)
    body = json.dumps({"prompt": "Hello", "max_tokens": 4}).encode()
    asked = urllib.request.Request(
        f"http://127.0.0.1:{ports[0]}/v1/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert json.loads(answer.read())["usage"]["completion_tokens"] == 4


def test_it_has_the_limits_that_the_plan_asks_for(up: str) -> None:
    host = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", up).stdout)
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["ShmSize"] == 2**30
    assert 2 * 2**30 <= host["Memory"] <= 8 * 2**30
    assert host["LogConfig"]["Config"] == {"max-size": "50m", "max-file": "5"}
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_stopping_it_drains(up: str) -> None:
    docker("stop", "--time", "90", up)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", up).stdout.strip() == "0"
