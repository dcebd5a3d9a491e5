"""Fixtures: the CPU image, built once; a tiny model; volumes; and the containers that many tests only look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # or a neighbour is not importable (--import-mode=importlib)

from tests.building import write_model
from tests.image.containers import LABEL, ROOT, Container, docker, end_all, why_no_engine
from tests.image.private_commands import SECRET, Command
from tests.image.private_commands import Start as StartCommand
from tests.image.private_engine import IMAGE as SMALL_IMAGE
from tests.image.private_engine import PrivateEngine, import_small_image, why_none

IMAGE = os.environ.get("TEST_IMAGE", "aim-engine-unified-cpu")
KEY = "s3cret-of-the-tests"

Start = Callable[..., Container]


def serving(model: Path, *more: str) -> list[str]:
    """Options of docker run for the tiny model, with both ports published on loopback."""
    return [
        *("--publish", "127.0.0.1::8000", "--publish", "127.0.0.1::8080", "--volume", f"{model}:/models/tiny:ro"),
        *("--env", "AIM_MODEL=/models/tiny", "--env", "AIM_HARDWARE=cpu"),
        *("--env", "OMP_WAIT_POLICY=PASSIVE", *more),  # or engines that wait take the cores on which others compute
    ]


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    reason = why_no_engine()
    if reason:
        pytest.skip(f"no Docker Engine answers: {reason}")
    end_all()
    yield
    end_all()


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """Built as anybody builds it; seconds when nothing has changed."""
    subprocess.run([ROOT / "scripts" / "build", "--cpu", "--tag", IMAGE], check=True)
    return IMAGE


@pytest.fixture(scope="session")
def empty_image(engine: None) -> Iterator[str]:
    """An image with nothing in it, for containers that are created and never started."""
    name = f"{LABEL}-empty"
    done = subprocess.run(["docker", "import", "-", name], input=b"\0" * 10240, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    yield name
    docker("rmi", "--force", name, check=False)


@pytest.fixture(scope="session")
def base(image: str) -> str:
    """The name of the image that it is built on."""
    label = '{{index .Config.Labels "org.opencontainers.image.base.name"}}'
    return docker("inspect", "--format", label, image).stdout.strip()


@pytest.fixture(scope="session")
def tiny(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model, which the image's own torch makes."""
    folder = tmp_path_factory.mktemp("models")
    docker("run", "--rm", "--volume", f"{ROOT}/scripts:/scripts:ro", "--volume", f"{folder}:/made", image,
           "python3", "/scripts/tiny_model.py", "/made/tiny")  # fmt: skip
    folder.chmod(0o755)
    return folder / "tiny"


@pytest.fixture(scope="session")
def hub_cache(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache that holds the tiny model as tests/tiny."""
    folder = tmp_path_factory.mktemp("hub")
    revision = "0" * 40
    repository = folder / "models--tests--tiny"
    shutil.copytree(tiny, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def make_volume(engine: None) -> Callable[[], str]:
    def make() -> str:
        return docker("volume", "create", "--label", LABEL).stdout.strip()

    return make


@pytest.fixture
def start(image: str) -> Iterator[Start]:
    """Start containers that end with the test."""
    started: list[Container] = []

    def run(*command: str, options: Any = ()) -> Container:
        container = Container(image, *command, options=options)
        started.append(container)
        return container

    yield run
    for container in started:
        docker("rm", "--force", "--volumes", container.id)


@pytest.fixture(scope="session")
def volume(make_volume: Callable[[], str]) -> str:
    """The cache of `hardened`, and of the warm start after it."""
    return make_volume()


@pytest.fixture(scope="module")
def hardened(image: str, tiny: Path, volume: str) -> Iterator[Container]:
    """Ready: as an arbitrary user, read-only, with no capability, with a key, offline, saying everything in JSON."""
    container = Container(image, options=serving(
        tiny, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--user", "54321:54321", "--volume", f"{volume}:/workspace/model-cache", "--env", f"AIM_API_KEY={KEY}",
        "--env", "AIM_OFFLINE=1", "--env", "AIM_LOG_FORMAT=json", "--env", "VLLM_LOGGING_LEVEL=DEBUG",
    ))  # fmt: skip
    yield container
    docker("rm", "--force", container.id)


# --- an engine of the tests' own -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def running_private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    if reason := why_none():
        pytest.skip(f"no engine of one's own: {reason}")
    engine = PrivateEngine(tmp_path_factory.mktemp("engine") / "private")
    try:
        engine.start()
        import_small_image(engine)
        yield engine
    finally:
        engine.end()


@pytest.fixture
def private(running_private: PrivateEngine) -> Iterator[PrivateEngine]:
    """It runs, and nothing is in it: before the test and after it."""
    running_private.ensure()
    yield running_private
    running_private.ensure()
    running_private.clear()


@pytest.fixture
def aim(private: PrivateEngine) -> Iterator[StartCommand]:
    """Start commands of AIM Engine against it; what still runs after the test is killed."""
    begun: list[Command] = []

    def run(*words: str, environment: Mapping[str, str | None] | None = None, **options: Any) -> Command:
        argv = [sys.executable, "-m", "aim_engine.cli.main", *words]
        settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        merged = {**private.environment, "AIM_API_KEY": SECRET, **(environment or {})}
        variables = {name: text for name, text in merged.items() if text is not None}
        begun.append(Command(subprocess.Popen(argv, env=variables, **settings), []))
        return begun[-1]

    yield run
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        for stream in (one.process.stdout, one.process.stderr):
            if stream:
                stream.close()


@pytest.fixture
def launching(tmp_path: Path) -> Sequence[str]:
    """The words of a launch in it."""
    model = write_model(tmp_path / "model")
    return ("launch", str(model), "--hardware", "cpu", "--image", SMALL_IMAGE, "--network", "host", "--host",
            "127.0.0.1", "--port-range", "23300-23399")  # fmt: skip
