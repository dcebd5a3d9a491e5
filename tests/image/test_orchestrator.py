"""AIM Engine in a container that has the host's Docker socket: it does there what it does on the host, finds what a
killed one has left, and calls what docs/production.md says that it calls.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.trees import GROUP, plant_host, read_host
from tests.image.containers import LABEL, ROOT, docker
from tests.image.recording import Recording, engine_socket, route
from tests.image.test_compose import compose_program

pytestmark = pytest.mark.image

KEY = "s3cret-of-the-orchestrator"
RANGE = "23500-23599"
DOCUMENT = (ROOT / "docs" / "production.md").read_text()
SOCKET = "/var/run/docker.sock"


@dataclass(kw_only=True)
class Orchestrators:
    """Containers with the engine's socket (by way of the recording), in a network that somebody made."""

    image: str
    tiny: Path
    data: Path
    recording: Recording
    mark: str = field(default_factory=lambda: f"{LABEL}-{uuid.uuid4().hex[:8]}")

    @property
    def options(self) -> tuple[str, ...]:
        return (
            *("--label", LABEL, "--network", self.mark, "--no-healthcheck"),
            *("--volume", f"{self.recording.path}:{SOCKET}", "--volume", f"{self.tiny.parent}:/models:ro"),
            *("--volume", f"{self.data}:/data", "--volume", f"{self.mark}:/volume"),
            *("--env", "AIM_HARDWARE=cpu", "--env", "XDG_STATE_HOME=/data/state"),
        )

    def run(self, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """`docker run --rm IMAGE ...`."""
        return docker("run", "--rm", *self.options, *options, self.image, *words, check=False)

    def execute(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`docker exec orchestrator aim-engine ...`, in the one that stays."""
        given = [word for name in environment for word in ("--env", name)]
        return docker("exec", *given, self.mark, "aim-engine", *words, check=False, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def recording(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    where = engine_socket()
    if where is None:
        pytest.skip("the engine is not reached by a socket")
    found = Recording(tmp_path_factory.mktemp("socket") / "docker.sock", where)
    yield found
    found.close()


@pytest.fixture(scope="module")
def orchestrators(
    image: str, tiny: Path, recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orchestrators]:
    found = Orchestrators(image=image, tiny=tiny, data=tmp_path_factory.mktemp("data"), recording=recording)
    docker("network", "create", found.mark)
    docker("run", "--detach", "--name", found.mark, *found.options, image, "watch", "--json", "--interval", "1")
    yield found
    left = docker("ps", "--all", "--quiet", "--filter", f"name=^{found.mark}").stdout.split()
    docker("rm", "--force", "--volumes", *left, check=False)
    docker("network", "rm", found.mark)
    docker("volume", "rm", found.mark)


Said = Mapping[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cycle(orchestrators: Orchestrators) -> Said:
    """What an orchestrator's commands say, from a launch to its end; and what others say of it meanwhile. A program of
    the host has the first port of the range, where no container can see it.
    """
    aim, name = orchestrators.execute, f"{orchestrators.mark}-one"
    wanted = ("launch", "/models/tiny", "--name", name, "--port-range", RANGE, "--host", "127.0.0.1", "--json")
    said = {"unseen": aim(*wanted, "--cache", "/opt/x"), "absent": aim(*wanted, "--image", "127.0.0.1:9/x/y:1")}
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", int(RANGE.partition("-")[0])))
        busy.listen()
        said["launch"] = aim(*wanted, "--cache", "/data/cache", AIM_API_KEY=KEY)
    said["inspect"] = docker("inspect", name, check=False)
    said["list"] = aim("list", "--json")
    said["status"] = aim("status", name, "--json")
    said["logs"] = aim("logs", name)
    ask = f"import urllib.request as u; print(u.urlopen('http://{name}:8080/health/ready', timeout=9).status)"
    said["neighbour"] = orchestrators.run("python3", "-c", ask)
    said["watched"] = docker("logs", orchestrators.mark)
    said["restart"] = aim("restart", name, "--detach")
    said["stop"] = aim("stop", name, "--timeout", "0", "--json")
    said["after"] = aim("list", "--all", "--json")
    return said


def result(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


# --- the cycle ----------------------------------------------------------------------------------------------------


def test_a_launch_from_within_a_container(cycle: Said, orchestrators: Orchestrators) -> None:
    said = result(cycle["launch"])
    assert said["success"] is True
    assert said["test"]["completion_tokens"] > 0
    assert said["image"] == orchestrators.image  # its own, though none was named
    for step in ("create", "start", "ready", "test"):
        assert re.search(rf"[✓+] {step}", cycle["launch"].stderr), step


def test_its_paths_are_the_host_s(cycle: Said, orchestrators: Orchestrators) -> None:
    (found,) = result(cycle["inspect"])
    mounts = {one["Target"]: one["Source"] for one in found["HostConfig"]["Mounts"]}
    assert mounts["/workspace/model-cache"] == str(orchestrators.data / "cache")
    assert mounts["/models/tiny"] == str(orchestrators.tiny)
    assert mounts["/run/secrets/AIM_API_KEY"].startswith(f"{orchestrators.data}/state/aim-engine/secrets/")
    assert KEY not in cycle["inspect"].stdout + cycle["launch"].stderr + cycle["logs"].stdout
    assert any((orchestrators.data / "cache").iterdir())  # and what it wrote is on the host


def test_a_port_that_no_container_could_see_is_gone_round(cycle: Said) -> None:
    first = int(RANGE.partition("-")[0])
    said = result(cycle["launch"])
    assert "is taken after all" in cycle["launch"].stderr
    assert said["port"] != first
    assert str(first) not in said["health_url"]


def test_it_is_reached_in_the_orchestrator_s_own_network(cycle: Said, orchestrators: Orchestrators) -> None:
    """Published on the host's loopback, which no container reaches."""
    (found,) = result(cycle["inspect"])
    address = found["NetworkSettings"]["Networks"][orchestrators.mark]["IPAddress"]
    (seen,) = [one for one in result(cycle["list"]) if one["name"] == f"{orchestrators.mark}-one"]
    assert seen["url"] == f"http://{address}:8000"
    assert cycle["neighbour"].stdout.strip() == "200"


def test_the_key_s_file_is_found_again(cycle: Said, orchestrators: Orchestrators) -> None:
    """Counters of this moment come from the API, which asks for the key that this command was not given."""
    (seen,) = [one for one in result(cycle["list"]) if one["name"] == f"{orchestrators.mark}-one"]
    assert seen["tokens_per_second"] is not None
    assert result(cycle["status"])["name"] == f"{orchestrators.mark}-one"
    assert "Application startup complete" in cycle["logs"].stdout + cycle["logs"].stderr
    assert f"{orchestrators.mark}-one" in cycle["watched"].stdout


def test_stopping_frees_the_host_s_ports_and_forgets_the_key(cycle: Said, orchestrators: Orchestrators) -> None:
    launched = result(cycle["launch"])
    assert cycle["restart"].returncode == 0, cycle["restart"].stderr
    (stopped,) = json.loads(cycle["stop"].stdout)
    assert stopped["removed"] is True
    assert launched["port"] in stopped["freed"]["ports"]
    assert f"{orchestrators.mark}-one" not in cycle["after"].stdout
    assert [path for path in (orchestrators.data / "state").rglob("*") if path.is_file()] == []


def test_a_path_on_no_mount_is_refused(cycle: Said) -> None:
    error = result(cycle["unseen"], 10)["error"]
    assert error["message"].startswith("/opt/x lies in this container alone")
    assert "-v FOLDER_OF_THE_HOST:/opt/x" in error["hint"]


def test_an_orchestrator_ends_when_it_is_told_to(orchestrators: Orchestrators) -> None:
    """As pid 1, where a signal without an answer is not heard."""
    name = f"{orchestrators.mark}-ends"
    docker("run", "--detach", "--name", name, *orchestrators.options, orchestrators.image, "watch")
    deadline = time.monotonic() + 20
    while not docker("logs", name).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    docker("stop", "--time", "8", name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"


# --- killed ---------------------------------------------------------------------------------------------------------


def test_what_a_killed_orchestrator_leaves_is_found_and_stopped(orchestrators: Orchestrators) -> None:
    """Killed between the creation and the start, by the call that would start it."""
    name, killed = f"{orchestrators.mark}-left", f"{orchestrators.mark}-killed"

    def kill(call: str) -> None:
        if call == "POST /containers/{id}/start":
            orchestrators.recording.before = lambda _: None
            docker("kill", killed)
            raise ConnectionAbortedError

    orchestrators.recording.before = kill
    done = orchestrators.run("launch", "/models/tiny", "--name", name, "--port-range", RANGE,
                             options=("--name", killed, "--env", f"AIM_API_KEY={KEY}"))  # fmt: skip
    assert done.returncode == 137
    (left,) = [one for one in result(orchestrators.run("list", "--all", "--json")) if one["name"] == name]
    assert left["state"] == "created"
    (stopped,) = result(orchestrators.run("stop", name, "--json"))
    assert stopped["removed"] is True
    assert docker("ps", "--all", "--quiet", "--filter", f"name=^{name}$").stdout.strip() == ""
    assert [path for path in (orchestrators.data / "state").rglob("*") if path.is_file()] == []


# --- GPUs: a recorded host's /sys, and device files that are not GPUs' ------------------------------------------------


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    root = plant_host(read_host("mi300x-spx"), tmp_path_factory.mktemp("host"))
    return ("--volume", f"{root}/sys:/sys:ro", "--env", "AIM_HARDWARE=detect")


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("dev")
    names = ("kfd", *(f"dri/renderD{minor}" for minor in range(128, 185, 8)))
    options: list[str] = []
    for name in names:
        file = folder / name.replace("/", "-")
        try:
            os.mknod(file, stat.S_IFCHR | 0o660, os.makedev(1, 3))
            os.chown(file, 0, GROUP)
        except PermissionError:
            pytest.skip("device files can only be made by root")
        options += ["--device", f"{file}:/dev/{name}"]
    return tuple(options)


@pytest.fixture(scope="module")
def planned(
    orchestrators: Orchestrators, gpus: tuple[str, ...], devices: tuple[str, ...]
) -> dict[str, subprocess.CompletedProcess[str]]:
    wanted = ("launch", "Qwen/Qwen3-32B", "2", "--dry-run", "--json")
    options = (*gpus, *devices)
    return {
        "files": orchestrators.run(*wanted, options=options),
        "cdi": orchestrators.run(*wanted, "--device-mode", "cdi", options=options),
    }


def test_without_its_devices_it_says_what_to_add(orchestrators: Orchestrators, gpus: tuple[str, ...]) -> None:
    error = result(orchestrators.run("launch", "Qwen/Qwen3-32B", "--json", options=gpus), 20)["error"]
    assert "docker run --device /dev/kfd --device /dev/dri" in error["hint"]


def test_the_endpoint_gets_the_host_s_files_and_group_numbers(planned: Said) -> None:
    argv = result(planned["files"])["argv"]
    pairs = list(pairwise(argv))
    assert [value for flag, value in pairs if flag == "--device"] == [
        "/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD136"]  # fmt: skip
    assert ("--group-add", str(GROUP)) in pairs
    assert "aim-engine-unified" in argv  # the orchestrator's own image is for the CPU


# --- what is called -----------------------------------------------------------------------------------------------


def part(name: str) -> str:
    return DOCUMENT.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]


def documented() -> set[str]:
    table = part("calls")
    return {f"{method} {path}" for method, path in re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", table, re.MULTILINE)}


def test_what_the_commands_call_is_what_the_document_lists(
    cycle: Said, planned: Said, recording: Recording, orchestrators: Orchestrators
) -> None:
    """All of it, and nothing else. Another launch is waited for, so that the engine's clock is asked too."""
    del cycle, planned
    lock = docker("create", "--name", "aim-engine-launch-lock", orchestrators.image, "true").stdout.strip()

    def release(call: str) -> None:
        if call == "GET /info":
            with suppress(AssertionError):
                docker("rm", lock)

    recording.before = release
    try:
        orchestrators.run("launch", "/models/tiny", "--image", orchestrators.image, "--network", "no-such-network")
    finally:
        recording.before = lambda _: None
        docker("rm", "--force", lock, check=False)
    assert sorted(set(recording.calls)) == sorted(documented())
    patterns = dict(line.split(maxsplit=1) for line in part("patterns").strip().splitlines()[1:-1])
    for method, path in set(recording.paths):
        assert re.fullmatch(patterns[method], path), path


def test_the_patterns_keep_out_what_is_not_needed() -> None:
    patterns = dict(line.split(maxsplit=1) for line in part("patterns").strip().splitlines()[1:-1])
    for method, path in (("POST", "/v1.41/containers/a/exec"), ("POST", "/v1.41/build"), ("DELETE", "/v1.41/images/a"),
                         ("GET", "/v1.41/containers/a/archive"), ("POST", "/v1.41/volumes/create")):  # fmt: skip
        assert not re.fullmatch(patterns[method], path), path


def test_the_compose_file_is_one(engine: None, tmp_path: Path) -> None:
    text = DOCUMENT.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "docker-compose.yml").write_text(text)
    done = subprocess.run([*compose_program(), "config"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (service,) = yaml.safe_load(text)["services"].values()
    words = shlex.split(DOCUMENT.partition("```sh\n")[2].partition("docker exec")[0].replace("\\\n", ""))
    volumes = [value for flag, value in pairwise(words) if flag == "-v"]
    assert sorted(volumes) == sorted(service["volumes"])
    variables = dict(value.split("=", 1) for flag, value in pairwise(words) if flag == "-e")
    assert variables == service["environment"]
    assert words[words.index(service["image"]) + 1 :] == service["command"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1.41/containers/json", "GET /containers/json"),
        ("GET", "/v1.41/containers/0a1b/json", "GET /containers/{id}/json"),
        ("DELETE", "/v1.41/containers/0a1b", "DELETE /containers/{id}"),
        ("GET", "/images/r.example.com/a/b:1/json", "GET /images/{name}/json"),
        ("POST", "/v1.41/images/create", "POST /images/create"),
        ("GET", "/version", "GET /version"),
    ],
)
def test_a_route_has_no_names_in_it(method: str, path: str, expected: str) -> None:
    assert route(method, path) == expected
