"""What the container does with its arguments, and what it refuses: nothing here starts an engine to its end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.image.conftest import Start, serving
from tests.image.containers import docker

pytestmark = pytest.mark.image


def run(image: str, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return docker("run", "--rm", *options, image, *command, check=False)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("--version",), "aim-engine 0.1.0"),
        (("--help",), "Serve a language model"),
        (("plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:8"), "qwen3-32b-mi300x-bf16"),
        (("dry-run", "Qwen/Qwen3-32B", "--hardware", "MI300X:8"), "serve Qwen/Qwen3-32B --tensor-parallel-size 8"),
        (("recipes", "--hardware", "MI300X:8"), "qwen3-32b-mi300x-fp8"),
        (("list-profiles", "--hardware", "MI300X:8"), "qwen3-32b-mi300x-fp8"),
        (("models",), "Qwen/Qwen3-32B"),
        (("detect",), "CPU"),
        (("validate",), "no errors"),
        (("settings",), "AIM_MODEL"),
        (("completion", "bash"), "aim"),
        (("render", "compose", "Qwen/Qwen3-32B", "--hardware", "MI300X:8"), "/dev/kfd"),
    ],
)
def test_a_subcommand_runs_and_exits(image: str, command: tuple[str, ...], text: str) -> None:
    done = run(image, *command)
    assert done.returncode == 0, done.stderr
    assert text in done.stdout


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (("bash", "-c", "echo $((6 * 7)); exit 3"), 3, "42\n"),
        (("python3", "-c", "import vllm; print('it is here')"), 0, "it is here\n"),
    ],
)
def test_any_other_program_passes_through(image: str, command: tuple[str, ...], code: int, text: str) -> None:
    done = run(image, *command)
    assert (done.returncode, done.stdout) == (code, text), done.stderr


def test_the_build_recorded_what_its_own_engine_accepts(image: str) -> None:
    """In a container that can write nothing: every built-in recipe is parsed for the engine that will serve it."""
    plan = ("plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:8", "--min-evidence", "parsed", "--json")
    done = run(image, *plan, options=("--read-only", "--user", "54321:54321"))
    assert done.returncode == 0, done.stderr
    evidence = json.loads(done.stdout)["evidence"]
    assert evidence["level"] == "parsed"
    assert "; accepted by vllm " in evidence["source"]


def test_pid_1_is_what_was_asked_for(image: str) -> None:
    assert run(image, "cat", "/proc/1/comm").stdout == "cat\n"


@pytest.mark.parametrize(
    ("options", "command", "code", "text"),
    [
        (("--env", "AIM_HARDWARE=cpu"), (), 10, "AIM_MODEL"),
        (("--env", "AIM_MODEL=/models/tiny", "--env", "AIM_ENGINE_ARGS={bad"), (), 10, "AIM_ENGINE_ARGS"),
        (
            ("--env", 'AIM_ENGINE_ARGS={"max-batch-size": 4}', "--env", "AIM_MODEL=/models/tiny"),
            (),
            10,
            "max-batch-size",
        ),
        (("--env", "AIM_MODEL=/models/tiny"), ("--metric", "speed"), 10, "latency"),
        (("--env", "AIM_MODEL=Qwen/Qwen3-32B", "--env", "AIM_HARDWARE=MI300X:8"), (), 10, "declared hardware"),
        (("--env", "AIM_MODEL=/models/none"), (), 40, "/models/none"),
        ((), ("serve", "--no-such-flag"), 2, "--no-such-flag"),
        ((), ("paln", "a/b"), 2, "did you mean plan?"),
        ((), ("Qwen/Qwen3-32B",), 2, "-e AIM_MODEL=Qwen/Qwen3-32B"),
    ],
)
def test_what_is_wrong_from_the_start_has_its_code(
    image: str, tiny: Path, options: tuple[str, ...], command: tuple[str, ...], code: int, text: str
) -> None:
    done = run(image, *command, options=("--volume", f"{tiny}:/models/tiny:ro", "--env", "AIM_HARDWARE=cpu", *options))
    assert done.returncode == code, done.stderr
    words = json.loads(done.stderr.splitlines()[-1])
    assert words["code"] == code
    assert text in words["message"] + words["hint"]
    assert done.stdout == ""


@pytest.mark.parametrize("user", ["0", "1000", "54321:54321"])
def test_a_cache_that_cannot_be_written(image: str, tiny: Path, user: str, make_volume: Callable[[], str]) -> None:
    """A volume mounted read-only: the error names the user, the folder and what to do."""
    mounts = ("--volume", f"{make_volume()}:/workspace/model-cache:ro", "--user", user)
    done = run(image, options=(*serving(tiny), *mounts))
    assert done.returncode == 42, done.stderr
    words = json.loads(done.stderr.splitlines()[-1])
    assert f"/workspace/model-cache cannot be written by uid {user.partition(':')[0]}" in words["message"]
    assert "mount a volume" in words["hint"]


def test_a_read_only_container_without_a_place_for_its_state(image: str, tiny: Path) -> None:
    done = run(image, options=(*serving(tiny), "--read-only"))
    assert done.returncode == 42, done.stderr
    words = json.loads(done.stderr.splitlines()[-1])
    assert "AIM_STATE_DIR" in words["hint"]


def test_docker_kill_while_it_starts(start: Start, tiny: Path) -> None:
    container = start(options=serving(tiny))
    container.until(lambda: container.get("/health/live")[0] == 200, 20, "the sidecar answers")
    docker("kill", container.id)
    assert container.wait() == 137


def test_docker_stop_while_it_starts(start: Start, tiny: Path) -> None:
    container = start(options=serving(tiny))
    container.until(lambda: container.get("/health/live")[0] == 200, 20, "the sidecar answers")
    docker("stop", "--time", "30", container.id)
    assert container.inspect(".State.ExitCode") == 0
    assert container.words()["class"] == "Drained"
