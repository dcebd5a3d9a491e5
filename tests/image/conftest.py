"""Fixtures: the CPU image, built once; a tiny model; volumes; and the containers that many tests only look at."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # or a neighbour is not importable (--import-mode=importlib)

from tests.image.containers import LABEL, ROOT, Container, docker, end_all, why_no_engine

IMAGE = "aim-engine-unified-cpu"
KEY = "s3cret-of-the-tests"

Start = Callable[..., Container]


def serving(model: Path, *more: str) -> list[str]:
    """Options of docker run for the tiny model, with both ports published on loopback."""
    return [
        *("--publish", "127.0.0.1::8000", "--publish", "127.0.0.1::8080", "--volume", f"{model}:/models/tiny:ro"),
        *("--env", "AIM_MODEL=/models/tiny", "--env", "AIM_HARDWARE=cpu", *more),
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
