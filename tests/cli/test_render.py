"""`aim-engine render compose`: the file on stdout, or where asked; errors as everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.building import MODEL, write_model
from tests.cli.conftest import Run
from tests.deploy.planning import check_compose, service_of

ON = ("--hardware", "MI300X:8")


def test_the_file_is_stdout(cli: Run) -> None:
    done = cli("render", "compose", MODEL, *ON)
    assert (done.code, done.stderr) == (0, "")
    service = service_of(done.stdout)
    assert service["environment"]["AIM_RECIPE"] == "qwen3-32b-mi300x-bf16"
    assert "AIM_HARDWARE" not in service["environment"]


def test_its_own_flags(cli: Run) -> None:
    done = cli("render", "compose", MODEL, *ON, "--image", "r.example/aim:1", "--name", "mine", "--user", "1000:1000",
               "--gpus", "2")  # fmt: skip
    service = service_of(done.stdout)
    assert (service["image"], service["container_name"], service["user"]) == ("r.example/aim:1", "mine", "1000:1000")
    assert service["environment"]["AIM_GPU_COUNT"] == "2"


def test_the_flags_of_launch_that_a_file_can_say(cli: Run) -> None:
    done = cli("render", "compose", MODEL, *ON, "--network", "models", "--memory", "64g", "--memory-swap=-1",
               "--shm-size", "2g", "--restart", "no", "--env", "A=$1", "--log-opt", "max-size=1m", "--seccomp",
               "unconfined")  # fmt: skip
    document = yaml.safe_load(done.stdout)
    (service,) = document["services"].values()
    assert document["networks"]["models"]["external"] is True
    assert (service["mem_limit"], service["memswap_limit"], service["shm_size"]) == ("64g", -1, "2g")
    assert service["environment"]["A"] == "$$1"
    assert service["restart"] == "no"
    assert service["logging"]["options"] == {"max-size": "1m", "max-file": "5"}
    assert service["security_opt"] == ["no-new-privileges:true", "seccomp=unconfined"]


def test_a_variable_without_a_value_is_a_reference(cli: Run) -> None:
    done = cli("render", "compose", MODEL, *ON, "--env", "VLLM_ROCM_USE_AITER", "--env", "MINE",
               VLLM_ROCM_USE_AITER="s3cret-0", MINE="s3cret-1")  # fmt: skip
    environment = service_of(done.stdout)["environment"]
    assert "s3cret" not in done.stdout
    assert environment["MINE"].startswith("${MINE:?")
    assert environment["VLLM_ROCM_USE_AITER"].startswith("${VLLM_ROCM_USE_AITER:?")


@pytest.mark.parametrize("target", ["compose", "kubernetes", "kserve"])
def test_no_secret_gets_into_a_file(cli: Run, target: str) -> None:
    for words, remedy in (
        (("--env", "HTTPS_PROXY=http://u:s3cret@proxy:3128"), "--env HTTPS_PROXY"),
        (("--engine-args", '{"kv-transfer-config": {"token": "s3cret"}}'), "--env NAME"),
    ):
        done = cli("render", target, MODEL, *ON, *words)
        assert (done.code, done.last_words["class"]) == (10, "Input")
        assert remedy in done.last_words["hint"]
        assert "s3cret" not in done.stdout + done.stderr
    named = cli("render", target, MODEL, *ON, "--env", "HTTPS_PROXY", HTTPS_PROXY="http://u:s3cret@proxy:3128")
    assert (named.code, "s3cret" in named.stdout + named.stderr) == (0, False)


@pytest.mark.parametrize("target", ["compose", "kubernetes", "kserve"])
def test_an_expected_plan_is_that_or_none(cli: Run, target: str) -> None:
    done = cli("render", target, MODEL, *ON, "--expect-plan", '{"recipe_id": "other"}')
    assert (done.code, done.stdout) == (10, "")
    assert 'recipe_id is "qwen3-32b-mi300x-bf16", and "other" was expected' in done.last_words["message"]
    assert cli("render", target, MODEL, *ON, "--expect-plan", '{"recipe_id": "qwen3-32b-mi300x-bf16"}').code == 0


def test_the_image_is_the_one_for_the_devices(cli: Run, tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "m"))
    assert service_of(cli("render", "compose", MODEL, *ON).stdout)["image"] == "aim-engine-unified"
    done = cli("render", "compose", folder, "--hardware", "cpu", AIM_ENGINE_REGISTRY="r.example/aim")
    assert service_of(done.stdout)["image"] == "r.example/aim/aim-engine-unified-cpu"


def test_replicas_and_a_balancer(cli: Run, tmp_path: Path) -> None:
    done = cli(
        "render", "compose", MODEL, *ON, "--replicas", "3", "--gpus", "2", "--balancer-image", "r.example/nginx:1"
    )
    document = yaml.safe_load(done.stdout)
    check_compose(document)
    assert list(document["services"])[-1] == "balancer"
    assert len(document["services"]) == 4
    assert document["services"]["balancer"]["image"] == "r.example/nginx:1"
    chosen = [one["environment"].get("ROCR_VISIBLE_DEVICES") for one in document["services"].values()]
    assert chosen == ["0,1", "2,3", "4,5", None]  # their own render nodes are not known of declared hardware
    folder = str(write_model(tmp_path / "m"))
    alone = yaml.safe_load(cli("render", "compose", folder, "--hardware", "cpu", "--replicas", "1").stdout)
    assert len(alone["services"]) == 1


def test_too_many_replicas_are_refused_for_programs_too(cli: Run) -> None:
    done = cli("render", "compose", MODEL, *ON, "--replicas", "9", "--json")
    assert (done.code, done.json["error"]["class"]) == (20, "NoAccelerator")


def test_as_json(cli: Run) -> None:
    text = cli("render", "compose", MODEL, *ON).stdout
    assert cli("render", "compose", MODEL, *ON, "--json").json == yaml.safe_load(text)


def test_a_file_of_that_name_is_json(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "compose.JSON"
    assert cli("render", "compose", MODEL, *ON, "-o", str(path)).code == 0
    assert json.loads(path.read_text()) == yaml.safe_load(cli("render", "compose", MODEL, *ON).stdout)


def test_to_a_file(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    done = cli("render", "compose", MODEL, *ON, "--output", str(path))
    assert (done.code, done.stdout) == (0, "")
    assert path.read_text() == cli("render", "compose", MODEL, *ON).stdout


def test_a_file_that_cannot_be_written(cli: Run, tmp_path: Path) -> None:
    done = cli("render", "compose", MODEL, *ON, "-o", str(tmp_path))
    assert (done.code, done.stdout, done.last_words["class"]) == (42, "", "Cache")


def test_a_refusal(cli: Run) -> None:
    done = cli("render", "compose", MODEL, "--hardware", "MI250:8", "--min-evidence", "reported")
    assert (done.code, done.stdout, done.last_words["class"]) == (30, "", "NoRecipe")
    assert (
        cli("render", "compose", MODEL, "--hardware", "MI250:8", "--min-evidence", "reported", "--json").json["error"][
            "code"
        ]
        == 30
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["render"], 2),
        (["render", "nonsense", MODEL], 2),
        (["render", "compose"], 10),
        (["render", "compose", MODEL, *ON, "--image", "--privileged"], 2),
        (["render", "compose", MODEL, *ON, "--image=--privileged"], 10),
        (["render", "compose", MODEL, *ON, "--name", "a b"], 10),
        (["render", "compose", MODEL, *ON, "--host", "example.org"], 10),
        (["render", "compose", "a b", *ON], 10),
        (["render", "compose", MODEL, *ON, "--memory", "lots"], 10),
        (["render", "compose", MODEL, *ON, "--network", "none"], 10),
        (["render", "compose", MODEL, *ON, "--env", "NOT_SET"], 10),
        (["render", "compose", MODEL, *ON, "--env", "HF_TOKEN=x"], 10),
        (["render", "compose", MODEL, *ON, "--restart", "often"], 10),
        (["render", "compose", MODEL, *ON, "--replicas", "none"], 10),
        (["render", "compose", MODEL, *ON, "--replicas", "2", "--network", "host"], 10),
    ],
)
def test_what_is_wrong(cli: Run, words: list[str], code: int) -> None:
    done = cli(*words)
    assert (done.code, done.stdout) == (code, "")
    assert done.last_words["code"] == code


def test_secrets_of_the_environment_are_not_written(cli: Run) -> None:
    done = cli("render", "compose", MODEL, *ON, AIM_API_KEY="s3cret-a", HF_TOKEN="s3cret-b")
    assert "s3cret" not in done.stdout + done.stderr
    assert ":?" in service_of(done.stdout)["environment"]["AIM_API_KEY"]


def test_a_folder_with_a_hostile_name_on_the_cpu(cli: Run, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "-a b'\"$(id)é")
    done = cli("render", "compose", str(folder), "--hardware", "cpu")
    service = service_of(done.stdout)
    assert service["environment"]["AIM_MODEL"] == f"/models/{folder.name}".replace("$", "$$")
    assert service["volumes"][1]["source"] == str(folder).replace("$", "$$")
    assert "devices" not in service


def test_ascii_terminals_get_the_same_file(process: Run, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "é模")
    done = process("render", "compose", str(folder), "--hardware", "cpu", PYTHONIOENCODING="ascii")
    assert service_of(done.stdout)["environment"]["AIM_MODEL"] == f"/models/{folder.name}"


def test_help_shows_how(cli: Run) -> None:
    assert "compose" in cli("render", "--help").stdout
    assert "docker compose up -d --wait" in cli("render", "compose", "--help").stdout
