"""A container without a network, with weights that it may only read, as an ordinary user; and the ends of engines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.conftest import Start, serving
from tests.image.containers import Container, docker

pytestmark = pytest.mark.image

KILL_THE_ENGINE = """
import glob, os, signal
for comm in glob.glob("/proc/[0-9]*/comm"):
    if open(comm).read().startswith("VLLM::EngineCor"):
        os.kill(int(comm.split("/")[2]), signal.SIGKILL)
        print("killed")
"""


@pytest.fixture(scope="module")
def offline(image: str, hub_cache: Path) -> Iterator[Container]:
    environment = (
        "AIM_OFFLINE=1",
        "AIM_MODEL=tests/tiny",
        "AIM_HARDWARE=cpu",
        "AIM_FALLBACK=0",
        "HF_HUB_CACHE=/weights",
    )
    options = ["--network", "none", "--user", "1000", "--volume", f"{hub_cache}:/weights:ro"]
    container = Container(image, options=[*options, *(f"--env={each}" for each in environment)])
    container.until_ready()
    yield container
    docker("rm", "--force", container.id)


def test_it_answers_without_a_network(offline: Container) -> None:
    body = {"model": "tests/tiny", "prompt": "Hello", "max_tokens": 4}
    status, text = offline.ask_inside("/v1/completions", port=8000, body=body)
    assert status == 200, text
    assert json.loads(text)["usage"]["completion_tokens"] == 4
    assert offline.execute("sh", "-c", "cat /proc/net/route | wc -l").strip() == "1"


def test_the_log_is_one_stream_of_text(offline: Container) -> None:
    text = offline.logs()
    assert "recipe cpu-any-bf16" in text
    assert "aim sidecar: ready" in text
    assert "Application startup complete." in text


def test_an_engine_that_is_killed(offline: Container) -> None:
    """Without retries: the container ends, with the code for a crash."""
    assert "killed" in offline.python(KILL_THE_ENGINE)
    assert offline.wait() == 51
    assert offline.words()["class"] == "EngineCrashed"


def test_a_recipe_that_is_refused_only_by_the_running_engine(start: Start, tiny: Path, tmp_path: Path) -> None:
    """Nothing is tried again: the same arguments would be refused again."""
    recipe = (Path(__file__).parents[2] / "recipes/_families/cpu/cpu-any-bf16.yaml").read_text()
    folder = tmp_path / "recipes/_families/cpu"
    folder.mkdir(parents=True)
    (folder / "cpu-any-bf16.yaml").write_text(
        recipe.replace("enforce-eager: true", "enforce-eager: true\n      reasoning-parser: nonsense")
    )
    tmp_path.chmod(0o755)
    options = serving(tiny, "--volume", f"{tmp_path}/recipes:/recipes:ro", "--env", "AIM_RECIPES_DIR=/recipes")
    container = start(options=options)
    assert container.wait(120) == 50
    words = container.words()
    assert words["class"] == "EngineRefused"
    assert "nonsense" in words["message"]
