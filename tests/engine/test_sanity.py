"""AIM_SANITY on the real vLLM: a sound checkpoint passes, one of NaNs and one that knows a single word do not."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.questions import examine
from tests.runtime.server import Server

pytestmark = pytest.mark.engine

Serve = Callable[..., Server]


def changed(model: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the model with other weights."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    return folder


def spoil(tensors: dict[str, Any]) -> None:
    """As a wrong scale of an fp8 checkpoint does: one layer's numbers are none."""
    tensors["model.layers.0.mlp.down_proj.weight"].fill_(float("nan"))


def dull(tensors: dict[str, Any]) -> None:
    """Every token looks alike to it, and it is sure of what follows."""
    embedding = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = embedding[:1].expand_as(embedding).clone()
    tensors["lm_head.weight"] *= 100


def test_a_sound_checkpoint_is_sane(running: Server) -> None:
    """Of random weights, so its text is noise; that is not what is asked."""

    def post(url: str, body: Mapping[str, Any]) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", "Authorization": "Bearer s3cret"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    found = examine(post, completions_url=running.plan["command"]["urls"]["probe"], model="tiny")
    assert found.passed is True, found
    assert [check.passed for check in found.checks] == [True] * 5, found


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        pytest.param(spoil, "numbers", "log-probabilities", id="weights that are no numbers"),
        pytest.param(dull, "repetition", "times in a row", id="one word"),
    ],
)
def test_what_is_not_sane_does_not_become_ready(
    serve: Serve, tiny_model: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], check: str, words: str
) -> None:
    server = serve(model=str(changed(tiny_model, tmp_path / "model", change)), sanity=True, start_timeout_seconds=400.0)
    server.until(lambda: "not sane" in server.status().get("reason", ""), 400)
    status, body = server.get("/health/ready")
    assert status == 503
    assert words in json.loads(body)["reason"]
    assert "VLLM_ROCM_USE_AITER=0" in json.loads(body)["hint"]
    found = server.status()["sanity"]
    assert found["passed"] is False
    assert check in [one["name"] for one in found["checks"] if one["passed"] is False]
    assert server.get("/health/live")[0] == 200
    assert "its answers are not sane" in server.err
    assert len(server.status()["attempts"]) == 1
