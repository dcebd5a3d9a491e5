"""Models that only the hub knows: the real client against a hub of our own on this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Run
from tests.fakes.hub import OLDER, TINY, Hub, Model, hub_here

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub() -> Iterator[Hub]:
    models = {"gated": Model(gated=True), "empty": Model(files={"model.safetensors": TINY["model.safetensors"]}),
              "broken": Model(fault="500"), "older": Model(files=OLDER)}  # fmt: skip
    with hub_here(models, good=Model()) as found:
        yield found


@pytest.fixture
def plan(process: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    home = str(tmp_path_factory.mktemp("home"))

    def run(model: str, endpoint: str, **environment: str) -> Done:
        return process("plan", model, "--hardware", "cpu", "--json", HF_ENDPOINT=endpoint, HOME=home, HF_HOME=home,
                       **environment)  # fmt: skip

    return run


def test_the_numbers_of_a_model_come_from_its_headers(plan: Callable[..., Done], hub: Hub) -> None:
    address, seen = hub.address, hub.seen
    for _ in range(2):  # what the first time leaves behind must not stand in the way of the second
        done = plan("org/good", address, HF_TOKEN="hf_hunter2")
        assert done.code == 0, done.stderr
        line = done.json["memory"]["lines"][0]
        assert (line["name"], line["bytes"], line["basis"]) == ("weights", 2 * 512 * 64, "exact")
        assert "hunter2" not in done.stdout + done.stderr
    assert all(request.endswith(" hf_hunter2") for request in seen)


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("org/gated", 40, "org/gated is gated"),
        ("org/absent", 40, "the hub has no model org/absent, or it is private"),
        ("org/empty", 40, "org/empty has no config.json"),
        ("org/broken", 41, "the hub did not answer for org/broken"),
    ],
)
def test_a_model_that_is_not_given(plan: Callable[..., Done], hub: Hub, model: str, code: int, message: str) -> None:
    done = plan(model, hub.address)
    assert (done.code, done.last_words["code"]) == (code, code)
    assert done.last_words["message"].startswith(message)
    assert done.last_words["hint"]


def test_a_hub_that_is_not_there(plan: Callable[..., Done]) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        done = plan("org/good", f"http://127.0.0.1:{nobody_listens.getsockname()[1]}")
    assert (done.code, done.last_words["retryable"]) == (41, True)


def test_another_size_is_no_suggestion(plan: Callable[..., Done], hub: Hub) -> None:
    for endpoint in (hub.address, "http://127.0.0.1:9"):  # it has no such model, or there is no hub
        assert "did you mean" not in plan("Qwen/Qwen3-99B", endpoint).last_words["hint"]


def test_a_misspelling_is_a_suggestion_and_a_variation_only_where_the_hub_has_no_such_model(
    plan: Callable[..., Done], hub: Hub
) -> None:
    for endpoint in (hub.address, "http://127.0.0.1:9"):
        assert "did you mean Qwen/Qwen3-32B? " in plan("Qwen/Qwne3-32B", endpoint).last_words["hint"]
    assert "did you mean Qwen/Qwen3-32B? " in plan("Qwen/Qwen3-32B-absent", hub.address).last_words["hint"]
    assert "did you mean" not in plan("Qwen/Qwen3-32B-absent", "http://127.0.0.1:9").last_words["hint"]


def test_a_model_whose_weights_have_an_older_form_is_planned_by_the_size_of_its_files(
    plan: Callable[..., Done], hub: Hub
) -> None:
    done = plan("org/older", hub.address)
    assert done.code == 0
    assert done.json["warnings"] == ["org/older has its weights as .bin: their size is that of the files"]
    line = done.json["memory"]["lines"][0]
    assert (line["name"], line["bytes"], line["basis"]) == ("weights", 1000, "computed")


def test_the_hub_is_not_asked_where_nothing_here_could_serve_the_model(process: Run, hub: Hub, tmp_path: Path) -> None:
    address, seen = hub.address, hub.seen
    known = process("detect", "--hardware", "MI300X:8", "--json").stdout
    (tmp_path / "unknown.json").write_text(known.replace("MI300X", "MI999X"))
    done = process("plan", "org/good", "--hardware", str(tmp_path / "unknown.json"), HF_ENDPOINT=address)
    assert done.code == 30, done.stderr
    assert process("plan", "org/good", "--hardware", "cpu", HF_ENDPOINT=address, AIM_OFFLINE="1").code == 0
    assert seen == []
