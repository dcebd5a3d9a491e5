"""The tiny model: a folder that is complete, the same every time, and never put in the place of somebody's own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "tiny_model.py"


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, timeout=120, check=False)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    done = make(tmp_path)
    assert done.returncode == 1
    assert "was not made by this script" in done.stderr
    assert digests(tmp_path).keys() == {"README.md"}


def test_a_folder_that_cannot_be_written_is_said_so() -> None:
    done = make(Path("/proc/no/such/place"))
    assert done.returncode == 1
    assert "/proc/no/such/place cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.engine
def test_the_folder_is_whole_and_the_same_every_time(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert make(first).returncode == 0
    assert make(second).returncode == 0
    assert digests(first) == digests(second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    assert digests(first).keys() == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert "random weights" in (first / "README.md").read_text()
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in first.iterdir())


@pytest.mark.engine
def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert "is there already" in make(folder).stdout
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.engine
def test_a_folder_of_an_older_version_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make(folder)
    whole = digests(folder)
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("version 1", "version 0"))
    (folder / "model.safetensors").write_bytes(b"half")
    assert make(folder).returncode == 0
    assert digests(folder) == whole


@pytest.mark.engine
def test_weights_and_tokenizer_fit_the_config(tmp_path: Path) -> None:
    from safetensors import safe_open
    from tokenizers import Tokenizer

    folder = tmp_path / "model"
    make(folder)
    config = json.loads((folder / "config.json").read_text())
    with safe_open(str(folder / "model.safetensors"), framework="pt") as weights:
        names = set(weights.keys())
        embedding = weights.get_slice("model.embed_tokens.weight")
        assert embedding.get_shape() == [config["vocab_size"], config["hidden_size"]]
        assert embedding.get_dtype() == "BF16"
    assert {"lm_head.weight", "model.norm.weight", "model.layers.1.self_attn.q_norm.weight"} <= names
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() <= config["vocab_size"]
    assert tokenizer.token_to_id("<|im_end|>") == config["eos_token_id"]
    text = "Grüße, 世界! <x>"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
