"""What is read of a hub's model: the hub's real client against a hub of our own in this process."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from aim_engine.catalog.checkpoint import HUB, Checkpoint, Tensor
from aim_engine.catalog.hub import checkpoint_at_hub
from aim_engine.catalog.model_files import checkpoint_in
from aim_engine.errors import AimError, HubUnreachableError, ModelAccessError
from tests.building import TINY_CONFIG, safetensors
from tests.fakes.hub import COMMIT, OLDER, TINY, Hub, Model, hub_here

pytest.importorskip("huggingface_hub")

TOKEN = "hf_hunter2"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with hub_here(good=Model()) as found:
        yield found


def read(hub: Hub, model: Model | None = None, *, token: str | None = None, seconds: float = 10.0,
         revision: str = "main", told: Any = lambda done, total: None, **environment: str) -> Checkpoint:  # fmt: skip
    if model is not None:
        hub.models["org/it"] = model
    found = checkpoint_at_hub("org/it" if model else "org/good", token=token, seconds=seconds, revision=revision,
                              environment={"HF_ENDPOINT": hub.address, **environment}, told=told)  # fmt: skip
    assert found is not None
    return found


def refused(hub: Hub, model: Model | None = None, **words: Any) -> AimError:
    with pytest.raises(AimError) as caught:
        read(hub, model, **words)
    said = caught.value
    assert said.hint
    assert TOKEN not in f"{said.message} {said.hint} {said!r}"
    return said


def of(files: dict[str, bytes | str], **config: Any) -> dict[str, bytes]:
    """A model's files, with changes to the config."""
    own = {"config.json": json.dumps({**TINY_CONFIG, **config})} if config else {}
    return {name: data.encode() if isinstance(data, str) else data for name, data in {**TINY, **own, **files}.items()}


def shards(count: int, tensors: int = 3) -> dict[str, bytes]:
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    files = {
        name: safetensors({f"model.layers.{i}.{j}.weight": ("BF16", (4, 8), 2) for j in range(tensors)})
        for i, name in enumerate(names)
    }
    weight_map = {f"model.layers.{i}.{j}.weight": name for i, name in enumerate(names) for j in range(tensors)}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    return {**TINY, "model.safetensors.index.json": json.dumps(index).encode(), **files}


def test_a_checkpoint_at_the_hub(hub: Hub) -> None:
    found = read(hub, Model(files=of({"generation_config.json": '{"top_p": 0.9}'})), token=TOKEN)
    assert (found.source, found.revision, found.kind) == (HUB, COMMIT, "safetensors")
    assert found.tensors == {"a": Tensor(dtype="BF16", shape=(512, 64), bytes=65536)}
    assert found.generation_config == {"top_p": 0.9}
    assert dict(found.files)["model.safetensors"] == len(TINY["model.safetensors"])
    assert found.file_bytes == len(TINY["model.safetensors"])
    assert all(line.endswith(f" {TOKEN}") for line in hub.seen)


def test_a_token_never_follows_to_another_host(hub: Hub) -> None:
    read(hub, token=TOKEN)
    assert hub.elsewhere
    assert not any(TOKEN in line for line in hub.elsewhere)


def test_one_description_then_files_at_its_commit(hub: Hub) -> None:
    read(hub)
    assert hub.paths() == [
        "/api/models/org/good/revision/main?blobs=true",
        f"/org/good/resolve/{COMMIT}/config.json",
        f"/org/good/resolve/{COMMIT}/model.safetensors",
    ]


def test_headers_of_all_shards_and_no_weights(hub: Hub) -> None:
    files = shards(40)
    files["model-00007-of-00040.safetensors"] += b""
    seen: list[tuple[int, int]] = []
    found = read(hub, Model(files=files), told=lambda done, total: seen.append((done, total)))
    assert len(found.tensors) == 120
    assert found.weights == tuple(sorted(name for name in files if name.endswith(".safetensors") and "-of-" in name))
    assert len(hub.elsewhere) == 40  # one request each: the index tells how long a header is
    assert max(done for done, total in seen if total == 40) > 20


def test_the_weights_themselves_are_not_read(hub: Hub) -> None:
    large = safetensors({"a": ("BF16", (4096, 1024), 2)})
    read(hub, Model(files=of({"model.safetensors": large})))
    assert hub.sent_bytes < 150_000 < len(large)


def test_a_header_longer_than_expected_takes_a_second_request(hub: Hub) -> None:
    many = safetensors({f"{'x' * 100}{i}": ("BF16", (1,), 2) for i in range(2000)})
    found = read(hub, Model(files=of({"model.safetensors": many})))
    assert len(found.tensors) == 2000
    assert len(hub.elsewhere) == 2


def test_a_hub_that_knows_no_ranges_is_left_after_the_header(hub: Hub) -> None:
    many = safetensors({f"{'x' * 100}{i}": ("BF16", (2000,), 2) for i in range(2000)})
    model = Model(files=of({"model.safetensors": many}), fault="no_ranges", fault_at="elsewhere")
    assert len(read(hub, model).tensors) == 2000


def test_the_same_words_from_a_folder_and_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    files = {**shards(3), "hf_quant_config.json": b'{"quantization": {"quant_algo": "NVFP4"}}'}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    here, there = checkpoint_in(tmp_path, "org/it"), read(hub, Model(files=files))
    same = ("kind", "config", "generation_config", "tensors", "files", "weights", "doubts")
    assert [getattr(here, name) for name in same] == [getattr(there, name) for name in same]
    assert here.config["quantization_config"] == {"quant_algo": "NVFP4"}


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1", "b" * 40])
def test_a_revision_is_pinned_to_its_commit(hub: Hub, revision: str) -> None:
    model = Model(commits={"main": COMMIT, "v1": "b" * 40, "refs/pr/1": "b" * 40})
    assert read(hub, model, revision=revision).revision == "b" * 40
    assert all(path.split("/resolve/")[-1].startswith("b" * 40) for path in hub.paths()[1:])


def test_weights_in_an_older_form(hub: Hub) -> None:
    found = read(hub, Model(files={**OLDER, "training_args.bin": bytes(7)}))
    assert (found.kind, found.tensors, found.file_bytes) == ("bin", {}, 1000)
    assert found.doubts == ("org/it has its weights as .bin: their size is that of the files",)


def test_the_task_the_hub_names_is_a_doubt(hub: Hub) -> None:
    assert "text-ranking" in read(hub, Model(about={"pipeline_tag": "text-ranking"})).doubts[0]
    assert read(hub, Model(about={"pipeline_tag": "text-generation"})).doubts == ()


GATED, PRIVATE = Model(gated=True), Model(private=True)


@pytest.mark.parametrize(
    ("model", "token", "said"),
    [
        (GATED, None, "org/it is gated, and no token is set"),
        (GATED, TOKEN, "org/it is gated, and the token from HF_TOKEN has no access to it"),
        (GATED, "hf_old", "the hub does not accept the token from HF_TOKEN: it is mistyped, expired or revoked"),
        (Model(), "hf_old", "the hub does not accept the token from HF_TOKEN: it is mistyped, expired or revoked"),
        (PRIVATE, None, "the hub has no model org/it, or it is private"),
        (PRIVATE, TOKEN, "the hub has no model org/it, or it is private and the token has no access"),
        (Model(kind="datasets"), None, "org/it is a data set on the hub, not a model"),
        (Model(kind="spaces"), TOKEN, "org/it is a space on the hub, not a model"),
        (Model(fault="451"), None, "org/it cannot be had: the hub does not give it in this region (HTTP 451)"),
        (Model(fault="403", about={"headers": {"X_Error_Message": "Access to this resource is disabled."}}), None,
         "org/it cannot be had: the hub has disabled it"),
        (Model(fault="403"), TOKEN, "the token from HF_TOKEN may not read org/it"),
        (Model(fault="403"), None, "the hub does not give org/it without a token"),
        (Model(fault="404", fault_at="config.json"), None, "org/it has no config.json"),
        (Model(commits={"v1": COMMIT}), None, "org/it has no revision main"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_given(hub: Hub, model: Model, token: str | None, said: str) -> None:
    error = refused(hub, model, token=token)
    assert (error.message, error.code) == (said, 40)


def test_who_may_read_reads(hub: Hub) -> None:
    for model in (Model(gated=True, readers=(TOKEN,)), Model(private=True, readers=(TOKEN,))):
        assert read(hub, model, token=TOKEN).tensors


def test_the_source_of_a_refused_token_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(hub, token="hf_old", HF_TOKEN_FILE="/run/secrets/hf")
    assert "the token from /run/secrets/hf (HF_TOKEN_FILE)" in error.message
    (tmp_path / "login").write_text("hf_old")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "login"))
    assert f"the token from {tmp_path}/login:" in refused(hub).message
    assert read(hub, HF_HUB_DISABLE_IMPLICIT_TOKEN="1").tensors  # then none is sent, and none is needed


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Model(fault="429", about={"headers": {"Retry_After": "17"}}), "too many requests (HTTP 429)"),
        (Model(fault="503"), "HTTP 503"),
        (Model(fault="407"), "the proxy wants a name and a password (HTTP 407)"),
        (Model(fault="html"), "is no hub: it sent an HTML page"),
        (Model(fault="html", fault_at="config.json"), "is no hub: it sent an HTML page"),
        (Model(fault="garbage"), "is no hub: it sent no description of a model"),
        (Model(fault="cut"), "the answer broke off"),
        (Model(fault="cut", fault_at="config.json"), "the answer broke off"),
        (Model(fault="short", fault_at="elsewhere"), "the answer broke off in model.safetensors"),
        (Model(fault="loop"), "it sends from one address to the next without end"),
    ],
)
def test_a_hub_that_fails(hub: Hub, model: Model, said: str) -> None:
    error = refused(hub, model)
    assert isinstance(error, HubUnreachableError)
    assert error.message.startswith("the hub did not answer for org/it: ")
    assert said in error.message


def test_the_remedy_of_too_many_requests(hub: Hub) -> None:
    model = Model(fault="429", about={"headers": {"Retry_After": "17"}})
    assert refused(hub, model).hint == "try again in 17 s, or set HF_TOKEN: who is known may ask more often"
    assert refused(hub, model, token=TOKEN).hint == "try again in 17 s"
    of_the_window = Model(fault="429", about={"headers": {"RateLimit": '"api";r=0;t=171'}})
    assert refused(hub, of_the_window, token=TOKEN).hint == "try again in 171 s"
    assert "in some minutes" in refused(hub, Model(fault="429", about={"headers": {"Retry_After": "Fri"}})).hint


@pytest.mark.parametrize("fault", ["503", "cut"])
def test_one_answer_of_many_may_fail(hub: Hub, fault: str) -> None:
    model = Model(files=shards(5), fault=fault, fault_at="elsewhere", fault_times=1)
    assert len(read(hub, model).tensors) == 15


@pytest.mark.parametrize("fault", ["silent", "drip"])
@pytest.mark.parametrize("at", ["/revision/", "config.json", "elsewhere/model-00002"])
def test_a_hub_that_keeps_silent_is_waited_for_only_so_long(hub: Hub, fault: str, at: str) -> None:
    began = time.monotonic()
    error = refused(hub, Model(files=shards(3), fault=fault, fault_at=at), seconds=0.5)
    assert "kept silent for 0.5 s" in error.message
    assert "AIM_HUB_TIMEOUT" in error.hint
    assert 0.4 < time.monotonic() - began < 3


def test_the_session_of_older_clients(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub before 1.0, which older engines bring, has one of requests for each thread."""
    monkeypatch.setattr("huggingface_hub.utils.get_session", requests.Session)
    assert len(read(hub, Model(files=shards(5)), token=TOKEN).tensors) == 15
    assert not any(TOKEN in line for line in hub.elsewhere)
    for fault, said in [("cut", "the answer broke off"), ("loop", "without end"), ("silent", "kept silent")]:
        assert said in refused(hub, Model(fault=fault), seconds=0.5).message
    assert "nobody listens" in refused(hub, HF_ENDPOINT="http://127.0.0.1:9").message
    assert "cannot be looked up" in refused(hub, HF_ENDPOINT="http://no-such-host.invalid").message
    assert "HF_ENDPOINT is no address" in refused(hub, HF_ENDPOINT="no address").message


def with_header(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.safetensors": b""}, "model.safetensors of org/it is empty at the hub"),
        ({"model.safetensors": TINY["model.safetensors"][:-1]}, "model.safetensors of org/it is damaged at the hub"),
        ({"model.safetensors": struct.pack("<Q", 10**6) + b"{"}, "model.safetensors of org/it is damaged at the hub"),
        ({"model.safetensors": with_header([1])}, "model.safetensors of org/it is damaged at the hub"),
        ({"model.safetensors.index.json": "{"}, "model.safetensors.index.json of org/it is damaged at the hub"),
        ({"model.safetensors.index.json": '{"weight_map": {"a": "../x.safetensors"}}'},
         "model.safetensors.index.json of org/it is damaged at the hub"),
        ({"model.safetensors.index.json": '{"weight_map": {"a": "model-2.safetensors", "b": "model.safetensors"}}'},
         "org/it lacks model-2.safetensors, which model.safetensors.index.json names"),
        ({"config.json": "{"}, "org/it/config.json is not JSON"),
        ({"config.json": "[]"}, "org/it/config.json must hold a JSON object"),
        ({"config.json": "{}"}, "org/it/config.json names neither architectures nor model_type"),
    ],
)  # fmt: skip
def test_files_that_are_damaged(hub: Hub, files: dict[str, bytes | str], said: str) -> None:
    error = refused(hub, Model(files=of(files)))
    assert isinstance(error, ModelAccessError)
    assert error.message.startswith(said)


def test_a_hub_without_a_commit_is_read_at_the_name(hub: Hub) -> None:
    assert read(hub, Model(about={"sha": None})).revision is None
    assert "/org/it/resolve/main/config.json" in hub.paths()


def test_a_folder_that_was_typed_like_an_id_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for there in (False, True):
        with pytest.raises(ModelAccessError) as caught:
            checkpoint_at_hub("big/gguf", token=None, environment={"HF_ENDPOINT": hub.address})
        assert str(caught.value.hint).endswith("; or ./big/gguf for the folder here") == there
        (tmp_path / "big" / "gguf").mkdir(parents=True, exist_ok=True)
