"""Secrets for a container, as files: where they lie, who may read them, and that nothing else names them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from aim_engine.deploy.docker_words import create_words, run_line
from aim_engine.deploy.secrets import remove_secrets, secret_values, secrets_folder, with_secret_files, write_secrets
from aim_engine.deploy.spec import container_spec
from aim_engine.errors import CacheError
from aim_engine.request import read_request
from tests.deploy.planning import cpu_plan

GIVEN = {"AIM_API_KEY": "s3cret-a", "HF_TOKEN": "s3cret-b"}


def test_where_they_lie() -> None:
    assert secrets_folder({"XDG_STATE_HOME": "/s"}, "c") == Path("/s/aim-engine/secrets/c")
    assert secrets_folder({"HOME": "/h"}, "c") == Path("/h/.local/state/aim-engine/secrets/c")
    assert secrets_folder({"HOME": "/h", "XDG_STATE_HOME": "rel"}, "c") == Path("/h/.local/state/aim-engine/secrets/c")
    assert secrets_folder({}, "c").is_absolute()


def test_the_spec_names_files_and_no_secret(tmp_path: Path) -> None:
    plan = cpu_plan(GIVEN)
    made = with_secret_files(container_spec(plan), secret_values(plan.request), tmp_path)
    assert made.passed == ()
    assert made.labels["ai.aim-engine.secrets"] == tmp_path.name
    assert made.environment["AIM_API_KEY_FILE"] == "/run/secrets/AIM_API_KEY"
    assert [mount.read_only for mount in made.mounts[-2:]] == [True, True]
    assert "s3cret" not in repr(made) + run_line(made) + json.dumps(create_words(made, {}))


def test_what_was_not_given_is_not_mounted(tmp_path: Path) -> None:
    plan = cpu_plan({"HF_TOKEN": "s3cret", "HF_ENDPOINT": "https://hub"})
    values = secret_values(plan.request)
    made = with_secret_files(container_spec(plan), values, tmp_path)
    assert "AIM_API_KEY_FILE" not in made.environment
    assert "ai.aim-engine.secrets" not in with_secret_files(container_spec(plan), {}, tmp_path).labels
    assert "HF_TOKEN_FILE" in made.environment
    assert create_words(made, values)["environment"]["HF_ENDPOINT"] == "https://hub"


def test_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "secrets" / "c"
    write_secrets(folder, {**GIVEN, "HF_ENDPOINT": "x"})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["AIM_API_KEY", "HF_TOKEN"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    read = read_request({}, {f"{name}_FILE": str(folder / name) for name in GIVEN})
    assert (read.api_key, read.hf_token) == ("s3cret-a", "s3cret-b")


def test_the_folder_is_closed_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_secrets(tmp_path / "c", GIVEN)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c" / "HF_TOKEN").stat().st_mode) == 0o644


def test_those_of_an_older_container_go(tmp_path: Path) -> None:
    write_secrets(tmp_path / "c", GIVEN)
    write_secrets(tmp_path / "c", {"HF_TOKEN": "new"})
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["HF_TOKEN"]


def test_a_link_in_the_folder_s_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    (tmp_path / "c").symlink_to(tmp_path / "mine")
    write_secrets(tmp_path / "c", GIVEN)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]
    assert not (tmp_path / "c").is_symlink()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be written") as caught:
        write_secrets(tmp_path / "file" / "c", GIVEN)
    assert "s3cret" not in str(caught.value.as_json())


def test_removing_them(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    write_secrets(secrets_folder(environment, "c"), GIVEN)
    assert remove_secrets(environment, "c")
    assert not remove_secrets(environment, "c")
    assert not secrets_folder(environment, "c").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../../x"])
def test_only_a_container_s_own_folder_is_removed(name: str, tmp_path: Path) -> None:
    (tmp_path / "aim-engine" / "secrets").mkdir(parents=True)
    assert not remove_secrets({"XDG_STATE_HOME": str(tmp_path)}, name)
    assert (tmp_path / "aim-engine" / "secrets").is_dir()
