"""The image's name, and the progress of a pull as the engine tells it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from aim_engine.deploy.images import image_name, pull, watch_pull
from aim_engine.errors import DockerError, InputError
from tests.deploy.planning import cpu_plan, planned


def test_the_name_follows_the_devices_and_the_registry() -> None:
    assert image_name(planned(), None) == "aim-engine-unified"
    assert image_name(cpu_plan(), None) == "aim-engine-unified-cpu"
    registry = planned({"AIM_ENGINE_REGISTRY": "registry.example.com:5000/aim-engine/"})
    assert image_name(registry, None) == "registry.example.com:5000/aim-engine/aim-engine-unified"
    assert image_name(registry, "mine:1") == "mine:1"
    with pytest.raises(InputError, match="cannot be an image"):
        image_name(planned({"AIM_ENGINE_REGISTRY": "-x"}), None)


@pytest.mark.parametrize(
    ("registry", "image"),
    [
        ("your-registry.com/aim-engine:latest", "your-registry.com/aim-engine:latest"),
        ("r:5000/a@sha256:0123456789abcdef0123456789abcdef", "r:5000/a@sha256:0123456789abcdef0123456789abcdef"),
        ("aim-engine:1.0", "aim-engine:1.0"),
        ("your-registry.com/aim-engine", "your-registry.com/aim-engine/aim-engine-unified"),
        ("registry.example.com:5000", "registry.example.com:5000/aim-engine-unified"),
        ("localhost:5000", "localhost:5000/aim-engine-unified"),
    ],
)
def test_with_a_tag_or_a_digest_it_is_the_whole_image(registry: str, image: str) -> None:
    assert image_name(planned({"AIM_ENGINE_REGISTRY": registry}), None, lambda: "own") == image


def test_our_own_image_comes_after_what_was_asked_for() -> None:
    assert image_name(planned(), None, lambda: "own:1") == "own:1"
    assert image_name(planned(), "asked:1", lambda: "own:1") == "asked:1"


LINES: list[dict[str, Any]] = [
    {"status": "Pulling from x/y", "id": "latest"},
    {"status": "Pulling fs layer", "id": "a"},
    {"status": "Pulling fs layer", "id": "b"},
    {"status": "Downloading", "id": "a", "progressDetail": {"current": 10, "total": 100}},
    {"status": "Downloading", "id": "b", "progressDetail": {"current": 50, "total": 300}},
    {"status": "Download complete", "id": "a"},
    {"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 100}},
    {"status": "Already exists", "id": "c"},
    {"status": "Pull complete", "id": "b"},
    {"status": "Digest: sha256:..."},
]


def test_progress_is_bytes_and_layers() -> None:
    told: list[tuple[int, int, str]] = []
    watch_pull(LINES, lambda *words: told.append(words))
    assert (60, 400, "0 of 2 layers") in told
    assert told[-1] == (400, 400, "3 of 3 layers")


def test_the_engine_s_own_words_when_it_gives_up() -> None:
    with pytest.raises(DockerError, match="pull access denied") as caught:
        watch_pull([*LINES[:3], {"error": "pull access denied for x"}], lambda *_: None)
    assert "docker login" in caught.value.hint


def test_a_name_without_a_registry_is_not_looked_for_elsewhere() -> None:
    with pytest.raises(DockerError, match="says no registry") as caught:
        pull(None, "aim-engine-unified", lambda *_: None)
    assert "scripts/build" in caught.value.hint
    assert "--image" in caught.value.hint


@pytest.mark.parametrize("said", ["pull access denied for x/y, repository does not exist", "lookup x: network is down"])
def test_an_image_that_cannot_be_pulled_has_a_remedy_of_its_own(said: str) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise APIError("404", response=SimpleNamespace(status_code=404), explanation=said)

    with pytest.raises(DockerError, match="could not pull x/y") as caught:
        pull(SimpleNamespace(api=SimpleNamespace(pull=refuse)), "x/y", lambda *_: None)
    assert "scripts/build" in caught.value.hint
    assert "journalctl" not in caught.value.hint
