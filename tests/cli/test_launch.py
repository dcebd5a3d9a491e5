"""`aim-engine launch` as far as it goes without a Docker Engine: the line of --dry-run, and what is refused."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import aim_engine
from aim_engine.cli.launch import _in_words
from tests.building import MODEL, write_model, write_recipe
from tests.cli.conftest import Done, Run, interrupting
from tests.deploy.running import FakeDocker, ended

ON = ("--hardware", "MI300X:8")
NOWHERE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


def words_of(done: Done) -> list[str]:
    assert done.code == 0, done.stderr
    return shlex.split(done.stdout.replace("\\\n", ""))


def values_of(words: list[str], flag: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == flag]


def test_the_line_of_a_dry_run(cli: Run) -> None:
    done = cli("launch", MODEL, "4", "--precision", "bf16", *ON, "--dry-run", **NOWHERE)
    words = words_of(done)
    assert words[:3] == ["docker", "run", "--detach"]
    assert values_of(words, "--name") == ["aim-engine-qwen-qwen3-32b-4gpu-bf16-vllm"]
    assert "AIM_GPU_COUNT=4" in values_of(words, "--env")
    assert words[-2:] == ["aim-engine-unified", "serve"]
    assert "are not known" in done.stderr  # there is no engine to ask


def test_the_same_as_json(cli: Run) -> None:
    said = cli("launch", MODEL, *ON, "--dry-run", "--json", **NOWHERE).json
    assert said["success"] is True
    assert said["argv"] == shlex.split(said["line"].replace("\\\n", ""))


@pytest.mark.parametrize(
    "words",
    [
        (MODEL, "--port", "9000", "4"),
        (MODEL, "--json", "4", "--port", "9000"),
        ("--port", "9000", MODEL, "4"),
        ("--model", MODEL, "--port", "9000", "--gpus", "4"),
        ("--env", "A=1", MODEL, "--detach", "4", "--port", "9000"),
        ("--port", "9000", "--", MODEL, "4"),
    ],
)
def test_the_number_of_gpus_may_stand_anywhere(cli: Run, words: tuple[str, ...]) -> None:
    done = cli("launch", "--json", *ON, "--dry-run", *words, **NOWHERE)
    assert done.code == 0, done.stderr
    argv = done.json["argv"]
    assert "AIM_GPU_COUNT=4" in values_of(argv, "--env")
    assert "0.0.0.0:9000:8000" in values_of(argv, "--publish")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((MODEL, "4", "--json", "5"), "'5' is not understood"),
        ((MODEL, "--jsn", "4"), "did you mean --json?"),
        ((MODEL, "--port"), "expected one argument"),
        ((MODEL, "--wait", "4", "--detach"), "not allowed with"),
    ],
)
def test_words_anywhere_are_still_judged(cli: Run, words: tuple[str, ...], said: str) -> None:
    done = cli("launch", *words, *ON, "--dry-run", **NOWHERE)
    assert done.code == 2
    assert said in done.stderr


def test_help_and_completion_say_what_they_said(cli: Run) -> None:
    assert "[MODEL] [GPUS]" in " ".join(cli("launch", "--help").stdout.split())
    done = cli("completion", "bash")
    assert done.code == 0
    assert "--device-mode" in done.stdout


def test_every_flag_of_the_container(cli: Run, tmp_path: Path) -> None:
    write_recipe(tmp_path / "config" / "recipes", "mine")
    done = cli(
        "launch", MODEL, *ON, "--dry-run", "--image", "r.example.com/x:1", "--name", "mine", "--network", "net",
        "--memory", "64g", "--memory-swap=-1", "--shm-size", "2g", "--user", "7:8", "--restart", "no", "--env", "A=1 2",
        "--env", "FROM_HERE", "--log-opt", "max-size=1m", "--seccomp", "unconfined", "--host", "127.0.0.1", "--port",
        "9000", "--health-port", "9001", "--cache", str(tmp_path), "--config", str(tmp_path / "config"),
        FROM_HERE="it's", **NOWHERE,
    )  # fmt: skip
    words = words_of(done)
    for flag, value in {
        "--name": "mine", "--network": "net", "--memory": str(64 * 2**30), "--memory-swap": "-1", "--user": "7:8",
        "--shm-size": str(2 * 2**30), "--restart": "no",
    }.items():  # fmt: skip
        assert values_of(words, flag) == [value], flag
    assert {"A=1 2", "FROM_HERE=it's", "AIM_RECIPES_DIR=/config/recipes"} <= set(values_of(words, "--env"))
    assert values_of(words, "--publish") == ["127.0.0.1:9000:8000", "127.0.0.1:9001:8080"]
    assert values_of(words, "--log-opt") == ["max-size=1m", "max-file=5"]
    assert values_of(words, "--security-opt") == ["no-new-privileges:true", "seccomp=unconfined"]
    assert f"type=bind,source={tmp_path},target=/workspace/model-cache" in values_of(words, "--mount")
    assert words[-2:] == ["r.example.com/x:1", "serve"]


def test_the_log_folder_of_the_host_is_the_container_s(cli: Run, tmp_path: Path) -> None:
    done = cli("launch", MODEL, *ON, "--dry-run", "--logs", str(tmp_path / "a, b"), "--log-file-size", "1m", **NOWHERE)
    words = words_of(done)
    assert f'type=bind,"source={tmp_path}/a, b",target=/workspace/logs' in values_of(words, "--mount")
    name = values_of(words, "--name")[0]
    assert {"AIM_LOG_DIR=/workspace/logs", f"AIM_LOG_NAME={name}", "AIM_LOG_FILE_SIZE=1048576"} <= set(
        values_of(words, "--env")
    )
    assert not (tmp_path / "a, b").exists()  # nothing is made


def test_a_variable_of_the_container_wins_over_the_recipe_s_as_the_plan_says(cli: Run) -> None:
    done = cli("launch", MODEL, *ON, "--dry-run", "--env", "VLLM_ROCM_USE_AITER=0", **NOWHERE)
    assert "VLLM_ROCM_USE_AITER=0" in values_of(words_of(done), "--env")


def test_no_secret_is_in_the_line(cli: Run) -> None:
    done = cli("launch", MODEL, *ON, "--dry-run", AIM_API_KEY="s3cret", **NOWHERE)
    assert "s3cret" not in done.stdout + done.stderr
    assert "AIM_API_KEY" in values_of(words_of(done), "--env")
    assert "HF_TOKEN" not in done.stdout
    assert "a launch gives it as a file" in done.stderr


def test_replicas_are_a_line_each(cli: Run) -> None:
    done = cli("launch", MODEL, "2", "--replicas", "3", *ON, "--name", "it", "--port", "9000", "--dry-run", **NOWHERE)
    words = words_of(done)
    assert values_of(words, "--name") == ["it-1", "it-2", "it-3"]
    assert words.count("docker") == 3
    assert [value.partition(":")[2] for value in values_of(words, "--publish")] == [
        "9000:8000", "8080:8080", "9001:8000", "8081:8080", "9002:8000", "8082:8080",
    ]  # fmt: skip
    chosen = [value for value in values_of(words, "--env") if value.startswith("ROCR_VISIBLE_DEVICES=")]
    assert chosen == [f"ROCR_VISIBLE_DEVICES={pair}" for pair in ("0,1", "2,3", "4,5")]
    said = cli("launch", MODEL, "2", "--replicas", "3", *ON, "--dry-run", "--json", **NOWHERE).json
    assert [one["argv"][:2] for one in said["replicas"]] == [["docker", "run"]] * 3
    assert said["line"] == said["replicas"][0]["line"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--replicas", "0"), 10, "use a number from 1 to 64"),
        (("--replicas", "9"), 20, "9 replicas were asked for, and 8 of 8 are free"),
        (("4", "--replicas", "3"), 20, "3 replicas of 4 GPUs each need 12 GPUs"),
        (("--replicas", "2", "--port", "65535"), 10, "end beyond 65535"),
    ],
)
def test_so_many_replicas_cannot_be(cli: Run, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = cli("launch", MODEL, *words, *ON, "--dry-run", **NOWHERE)
    assert done.code == code
    assert sentence in done.stderr


def test_the_registry_and_the_range(cli: Run) -> None:
    done = cli("launch", MODEL, *ON, "--dry-run", AIM_ENGINE_REGISTRY="r.example.com/aim", **NOWHERE)
    assert words_of(done)[-2] == "r.example.com/aim/aim-engine-unified"
    assert "is not a setting" not in done.stderr


def test_a_hostile_folder_is_data(cli: Run, tmp_path: Path) -> None:
    folder = write_model(tmp_path / 'it\'s $(touch x) "q" -v é')
    words = words_of(cli("launch", str(folder), "--hardware", "cpu", "--dry-run", **NOWHERE))
    assert f"AIM_MODEL=/models/{folder.name}" in values_of(words, "--env")


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (("3", "--gpus", "4"), 2, "two numbers of GPUs"),
        (("--memory", "lots"), 10, "--memory 'lots' is no size"),
        (("--memory-swap", "0"), 10, "is no size"),
        (("--shm-size", "-1"), 10, "is no size"),
        (("--env", "NOT_SET"), 10, "not set in your environment"),
        (("--env", "AIM_API_KEY=x"), 10, "a setting of AIM Engine"),
        (("--restart", "sometimes"), 10, "no restart policy"),
        (("--network", "none"), 10, "nobody could reach"),
        (("--name", "a b"), 10, "cannot be the name"),
        (("--user", "root"), 10, "not a user id"),
        (("--user", "4294967295"), 10, "not a user id"),
        (("--memory", "4m"), 10, "--memory"),
        (("--memory", "6g", "--memory-swap", "1g"), 10, "--memory-swap"),
        (("--memory", "6g", "--memory-swap", "1g", "--dry-run"), 10, "--memory-swap"),
        (("--log-opt", "max-size=banana"), 10, "--log-opt max-size=banana"),
        (("--log-opt", "foo=x", "--dry-run"), 10, "--log-opt foo"),
        (("--image=-v",), 10, "cannot be an image"),
        (("--timeout", "soon"), 10, "--timeout"),
        (("--config", "/nowhere"), 10, "there is no such folder"),
        (("--port-range", "9"), 10, "--port-range"),
        (("--log-name", "../x"), 10, "--log-name"),
        (("--log-file-size", "1"), 10, "--log-file-size"),
        (("--log-opt", "x"), 10, "is not NAME=VALUE"),
        (("--wait", "--detach"), 2, "not allowed with"),
    ],
)
def test_what_is_refused_before_anything_is_asked(cli: Run, flags: tuple[str, ...], code: int, sentence: str) -> None:
    done = cli("launch", MODEL, *flags, *ON, **NOWHERE)
    assert done.code == code
    assert sentence in done.stderr
    assert done.last_words["code"] == code


@pytest.mark.parametrize("words", [("--name", "it-1"), ("--name", "it", "--replicas", "2")])
@pytest.mark.parametrize(
    ("labels", "state", "removal"),
    [
        (None, {}, "aim-engine stop it-1"),
        (None, ended(0), "aim-engine stop it-1"),
        ({}, {}, "docker rm --force it-1"),
        ({}, ended(0), "docker rm it-1"),
    ],
)
def test_a_name_that_is_taken_comes_with_what_removes_its_container(
    cli: Run, words: tuple[str, ...], labels: Mapping[str, str] | None, state: Mapping[str, Any], removal: str
) -> None:
    docker = FakeDocker()
    there = docker.add("it-1", state=state)
    there["Config"]["Labels"] = there["Config"]["Labels"] if labels is None else labels
    done = cli("launch", MODEL, *ON, *words, "--dry-run", DOCKER_HOST=docker.host)
    docker.close()
    assert done.code == 10
    assert done.last_words["hint"].endswith(f"; {removal} removes that one")


def result(name: str, **more: Any) -> dict[str, Any]:
    return {"container_name": name, "status": "running", "api_url": "http://127.0.0.1:8000/v1", "served_model": "tiny",
            "health_url": "http://127.0.0.1:8080", "test": None, "log_file": None, **more}  # fmt: skip


def test_what_a_client_needs_is_said_to_be_pasted() -> None:
    assert {"  api     http://127.0.0.1:8000/v1", "  model   tiny"} <= set(_in_words(result("a")).splitlines())
    hidden = _in_words(result("a", api_url=None, health_url=None))
    assert "None" not in hidden
    assert hidden.count("not published") == 2


def test_replicas_are_ended_by_one_line() -> None:
    alone, both = result("a"), result("a-1", replicas=[result("a-1"), result("a-2")])
    assert _in_words(alone).splitlines()[-1] == "  stop    aim-engine stop a"
    assert [line for line in _in_words(both).splitlines() if "stop" in line] == [
        "  stop    aim-engine stop a-1 --replicas"
    ]


def test_an_interrupt_before_anything_is_made(process: Run, tmp_path: Path) -> None:
    model = str(write_model(tmp_path / "m"))
    path = f"{interrupting(tmp_path)}:{Path(aim_engine.__file__).parents[1]}"
    done = process("launch", model, "--hardware", "cpu", "--dry-run", PYTHONPATH=path, **NOWHERE)
    assert done.code == 130
    assert done.stderr.splitlines()[-2] == "interrupted: nothing was made"
    assert (done.last_words["class"], done.last_words["code"]) == ("Interrupted", 130)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_end_by_a_signal_is_told(
    cli: Run, number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aim_engine.cli.launch.variables_typed", lambda *_: signal.raise_signal(number))
    done = cli("launch", MODEL, *ON, "--json", **NOWHERE)
    assert (done.code, done.json["success"], done.json["error"]["code"]) == (code, False, code)
    assert done.last_words["message"] == "interrupted: nothing was made"


def test_no_engine(cli: Run) -> None:
    done = cli("launch", MODEL, *ON, "--json", **NOWHERE)
    assert done.code == 60
    assert done.json["success"] is False
    assert done.json["error"]["class"] == "Docker"
    assert "systemctl start docker" in done.json["error"]["hint"]


def test_too_many_gpus_is_20_in_a_dry_run_too(cli: Run) -> None:
    done = cli("launch", MODEL, "8", "--hardware", "MI300X:4", "--dry-run", **NOWHERE)
    assert done.code == 20


def test_plan_does_not_pay_for_docker(process: Run) -> None:
    done = process("plan", MODEL, *ON, PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "aim_engine.plan" in imported
    assert not {"docker", "rich", "aim_engine.deploy.docker"} & imported


def test_a_config_folder_that_is_not_there(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, words in ((tmp_path / "none", "there is no such folder"), (file, "it is no folder"),
                        (tmp_path, "neither recipes/ nor models/")):  # fmt: skip
        done = cli("launch", MODEL, *ON, "--dry-run", "--config", str(path), **NOWHERE)
        assert done.code == 10
        assert words in done.last_words["message"]
