"""Hostile texts on the way into a container, as a shell or a terminal would obey them: they arrive as data, byte for
byte, by the launch and by the line of --dry-run that a real shell runs; or they are refused, and nothing is made.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.building import write_model, write_recipe
from tests.hostile import LONG, TEXTS
from tests.image.private_commands import Start, assert_nothing_is_left, done, last_words
from tests.image.private_engine import IMAGE, PrivateEngine

pytestmark = pytest.mark.image

ON = ("--hardware", "cpu", "--image", IMAGE, "--network", "host", "--host", "127.0.0.1", "--port-range", "23300-23399")
NO_KEY = {"AIM_API_KEY": None}  # unset


def launched(aim: Start, tmp_path: Path, *words: str) -> None:
    _, err = done(aim, "launch", *ON, "--name", "odd", "--detach", *words, environment=NO_KEY, cwd=tmp_path)
    assert_shown_safely(err)


def assert_shown_safely(text: str) -> None:
    assert not set(text) & set("\x1b\x07\u202e"), repr(text)


def inside(private: PrivateEngine) -> tuple[dict[str, str], list[str]]:
    """The environment and the arguments of the process itself."""
    pid = private.docker("inspect", "--format", "{{.State.Pid}}", "odd").stdout.strip()
    environ, argv = (Path(f"/proc/{pid}/{name}").read_bytes().decode() for name in ("environ", "cmdline"))
    pairs = (entry.partition("=") for entry in environ.split("\0") if entry)
    return {name: value for name, _, value in pairs}, argv.rstrip("\0").split("\0")


def facts(private: PrivateEngine) -> dict[str, Any]:
    (said,) = json.loads(private.docker("inspect", "odd").stdout)
    mounts = [(one["Type"], one["Source"], one["Destination"], one["RW"]) for one in said["Mounts"]]
    labels = {name: text for name, text in said["Config"]["Labels"].items() if name != "ai.aim-engine.launch"}
    return {"environment": sorted(said["Config"]["Env"]), "mounts": sorted(mounts), "labels": labels,
            "arguments": said["Args"], "devices": said["HostConfig"]["Devices"] or [], "path": said["Path"],
            "privileged": said["HostConfig"]["Privileged"], "user": said["Config"]["User"]}  # fmt: skip


@pytest.mark.parametrize("kind", [*TEXTS, "long"])
def test_values_and_paths_arrive_as_data(private: PrivateEngine, aim: Start, tmp_path: Path, kind: str) -> None:
    """A folder for the model, one for the cache, one with recipes, and a variable, each with that text."""
    text = TEXTS.get(kind, LONG)
    # a name in a folder has 255 bytes; a setting has no blanks around it and is on one line
    name = text[:250].replace("/", "").strip().replace("\n", " ")
    here = tmp_path / name
    model = write_model(here / "model")
    odd_model = model.rename(here / name)
    write_recipe(here / "config" / "recipes", "mine")
    (here / "cache").mkdir()
    words = [f"--model={odd_model}", f"--env=ODD={text}", f"--cache={here / 'cache'}", f"--config={here / 'config'}"]
    launched(aim, tmp_path, *words)
    environ, argv = inside(private)
    assert environ["ODD"] == text
    assert environ["AIM_MODEL"] == f"/models/{name}"
    assert argv == ["/bin/sh", "/entry", "serve"]
    ours = facts(private)
    assert {source for _, source, _, _ in ours["mounts"]} == {
        str(odd_model), str(here / "cache"), str(here / "config" / "recipes"),
    }  # fmt: skip
    assert not ours["privileged"]
    private.docker("rm", "--force", "odd")
    line, err = done(aim, "launch", *words, *ON, "--name", "odd", "--dry-run", "--json", environment=NO_KEY)
    assert_shown_safely(line + err)
    shell = subprocess.run(["sh", "-c", json.loads(line)["line"]], env=private.environment, cwd=tmp_path,
                           capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert shell.returncode == 0, shell.stderr
    assert facts(private) == ours
    assert inside(private)[0]["ODD"] == text
    assert not list(tmp_path.rglob("injected"))


def test_a_path_of_two_lines_is_refused(private: PrivateEngine, aim: Start, tmp_path: Path) -> None:
    model = write_model(tmp_path / "made").rename(tmp_path / TEXTS["newline"])
    _, err = done(aim, "launch", str(model), *ON, "--detach", code=10)
    assert "on one line" in last_words(err)["hint"]
    assert_nothing_is_left(private)


@pytest.mark.parametrize("first", ["--privileged", "-v/:/host", "--name"])
def test_a_word_that_looks_like_a_flag(private: PrivateEngine, aim: Start, tmp_path: Path, first: str) -> None:
    """Behind `--` it is the model; before, a flag that nobody knows."""
    assert aim("launch", first, *ON, "--detach", cwd=tmp_path).end()[0] == 2
    model = write_model(tmp_path / "made").rename(tmp_path / first.replace("/", ""))
    launched(aim, tmp_path, "--", f"./{model.name}")
    assert inside(private)[0]["AIM_MODEL"] == f"/models/{model.name}"
