"""Hostile texts where a launch takes only certain ones: each is refused with its reason before Docker is asked. Where
any text may stand, tests/image/test_injection.py shows that it arrives.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.building import write_model
from tests.cli.conftest import Run
from tests.hostile import LONG, TEXTS

NOWHERE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
PLACES = {
    "model id": "--model=org/{}",
    "name": "--name={}",
    "image": "--image={}",
    "network": "--network=-{}",
    "recipe": "--recipe={}",
    "user": "--user={}",
    "a variable's name": "--env= {}=x",
}


@pytest.mark.parametrize("kind", [*TEXTS, "long"])
@pytest.mark.parametrize("place", PLACES)
def test_what_cannot_be_data_is_refused(
    cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    word = PLACES[place].format(TEXTS.get(kind, LONG))
    model = [] if place == "model id" else [str(write_model(tmp_path / "model"))]
    # which recipes there are is known only with the plan, after Docker was asked; a dry run does without
    more = ["--dry-run"] if place == "recipe" else ["--detach"]
    done = cli("launch", *model, word, *more, "--hardware", "cpu", **NOWHERE)
    assert done.code == (30 if place == "recipe" and kind != "newline" else 10), done.stderr
    assert (done.stdout, done.last_words["code"]) == ("", done.code)
    assert done.last_words["hint"]
    assert not set(done.stderr) & set("\x1b\x07\u202e")
    assert not list(tmp_path.rglob("injected"))
