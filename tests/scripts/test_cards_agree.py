"""scripts/cards-agree beside a hub of our own: what agrees, what differs, and what could not be asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.building import ROOT, TINY_CONFIG
from tests.fakes.hub import TINY, Hub, Model, hub_here

DEEPER = {**TINY, "config.json": json.dumps({**TINY_CONFIG, "num_hidden_layers": 99}).encode()}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_here(same=Model(), deeper=Model(files=DEEPER), closed=Model(gated=True)) as found:
        yield found


def card(folder: Path, name: str, **more: object) -> None:
    """A card as scripts/model-card would make it of the tiny model."""
    keys = {
        "model_id": f"org/{name}", "architecture": "Qwen3ForCausalLM", "precision": "bf16",
        "config": TINY_CONFIG, "weights_bytes": {"bf16": 65536}, **more,
    }  # fmt: skip
    path = folder / "org" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(keys))


def agree(hub: Hub | None, folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "AIM_MODELS_DIR": str(folder),
                   "HF_ENDPOINT": hub.address if hub else "http://127.0.0.1:9"}  # fmt: skip
    argv = [sys.executable, str(ROOT / "scripts" / "cards_agree.py"), *(f"org/{name}" for name in names)]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def test_a_card_that_agrees(hub: Hub, tmp_path: Path) -> None:
    card(tmp_path, "same")
    done = agree(hub, tmp_path, "same")
    assert (done.stdout, done.returncode) == ("org/same: as the hub has it\n", 0), done.stderr
    assert done.stderr == "1 agree, 0 differ, 0 could not be compared\n"


def test_every_difference_is_told(hub: Hub, tmp_path: Path) -> None:
    card(tmp_path, "deeper", weights_bytes={"bf16": 70000}, precision="bf16", architecture="OtherForCausalLM")
    done = agree(hub, tmp_path, "deeper")
    assert done.returncode == 1, done.stderr
    for words in (
        "architecture OtherForCausalLM, the hub's",
        "layers 2, the hub's 99",
        "70,000 in bf16, the hub's 65,536",
    ):
        assert words in done.stdout


def test_one_that_cannot_be_asked_does_not_count(hub: Hub, tmp_path: Path) -> None:
    for name in ("same", "closed", "absent"):
        card(tmp_path, name)
    done = agree(hub, tmp_path, "same", "closed", "absent")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "1 agree, 0 differ, 2 could not be compared\n"
    assert done.stdout.count("not compared: ") == 2


def test_no_hub_and_no_card(tmp_path: Path) -> None:
    card(tmp_path, "same")
    assert agree(None, tmp_path, "same").returncode == 41
    unknown = agree(None, tmp_path, "nobody-s")
    assert (unknown.returncode, unknown.stderr) == (10, "cards-agree: no card of org/nobody-s\n")
