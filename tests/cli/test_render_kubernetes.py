"""`aim-engine render kubernetes`: one stream on stdout, a file, or a folder; errors as everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.building import MODEL, write_model
from tests.cli.conftest import Run

ON = ("--hardware", "MI300X:8", "--render-group", "109", "--image", "r.example/aim:1")


def documents(text: str) -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def container(text: str) -> Any:
    return documents(text)["Deployment"]["spec"]["template"]["spec"]["containers"][0]


def test_the_stream_is_stdout(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, *ON)
    assert (done.code, done.stderr) == (0, "")
    assert container(done.stdout)["image"] == "r.example/aim:1"


def test_what_is_only_assumed_is_a_warning(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, "--hardware", "MI300X:8")
    assert "--render-group" in done.stderr
    assert "--image" in done.stderr


def test_what_a_pod_has_no_use_for_is_said(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, *ON, "--host", "127.0.0.1", "--state-dir", "/s", "--log-name", "n")
    assert [line for line in done.stderr.splitlines() if "is left out" in line] == done.stderr.splitlines()
    assert all(flag in done.stderr for flag in ("--host is", "--state-dir is", "--log-name is"))
    assert documents(done.stdout) == documents(cli("render", "kubernetes", MODEL, *ON).stdout)


def test_its_own_flags(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, *ON, "--gpus", "2", "--name", "on", "--namespace", "1e3", "--replicas",
               "2", "--env", "A=$(B)", "--cpus", "7", "--cache-size", "200g", "--pull-secret", "pull")  # fmt: skip
    found = documents(done.stdout)
    assert {one["metadata"]["namespace"] for one in found.values()} == {"1e3"}
    assert found["Deployment"]["metadata"]["name"] == "on"
    assert found["Deployment"]["spec"]["replicas"] == 2
    assert {"name": "A", "value": "$$(B)"} in container(done.stdout)["env"]
    assert found["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"] == "200Gi"
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "pull"}]


def test_speeds_are_assumptions_that_can_be_others(cli: Run) -> None:
    def failures(*words: str) -> Any:
        return container(cli("render", "kubernetes", MODEL, *ON, *words).stdout)["startupProbe"]["failureThreshold"]

    slow = failures("--network-speed", "10m", "--disk-speed", "50m", "--compile-time", "3000")
    assert slow > failures() > failures("--network-speed", "10g", "--disk-speed", "10g", "--compile-time", "10")


def test_a_variable_without_a_value_is_in_the_secret(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, *ON, "--env", "MINE", MINE="s3cret-1", AIM_API_KEY="s3cret-2",
               HF_TOKEN="s3cret-3")  # fmt: skip
    assert "s3cret" not in done.stdout + done.stderr
    (mine,) = [one for one in container(done.stdout)["env"] if one["name"] == "MINE"]
    assert mine["valueFrom"]["secretKeyRef"]["key"] == "MINE"


def test_to_a_file_and_to_a_folder(cli: Run, tmp_path: Path) -> None:
    file, folder = tmp_path / "k.yaml", tmp_path / "k"
    assert cli("render", "kubernetes", MODEL, *ON, "-o", str(file)).stdout == ""
    assert file.read_text() == cli("render", "kubernetes", MODEL, *ON).stdout
    done = cli("render", "kubernetes", MODEL, *ON, "-o", str(folder))
    assert (done.code, done.stdout) == (0, "")
    listed = yaml.safe_load((folder / "base/kustomization.yaml").read_text())["resources"]
    assert {path.name for path in (folder / "base").iterdir()} == {*listed, "kustomization.yaml"}
    assert cli("render", "kubernetes", MODEL, *ON, "-o", str(folder)).code == 0  # again


def test_a_folder_with_a_kustomization_of_the_user_s_own(cli: Run, tmp_path: Path) -> None:
    own = tmp_path / "k/base/kustomization.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("resources: [mine.yaml]\n")
    done = cli("render", "kubernetes", MODEL, *ON, "-o", str(tmp_path / "k"))
    assert (done.code, done.stdout) == (10, "")
    assert str(own) in done.last_words["message"]
    assert own.read_text() == "resources: [mine.yaml]\n"
    assert list(tmp_path.rglob("*.yaml")) == [own]


def test_overlays_of_an_earlier_time_are_named_and_the_user_s_are_not(cli: Run, tmp_path: Path) -> None:
    assert cli("render", "kubernetes", MODEL, *ON, "-o", str(tmp_path)).code == 0
    own = tmp_path / "overlays/mine/kustomization.yaml"
    own.parent.mkdir()
    own.write_text("resources: [../../base]\n")
    done = cli("render", "kubernetes", MODEL, *ON, "--local-cache", "--with", "monitored", "-o", str(tmp_path))
    assert done.code == 0
    assert f"{tmp_path / 'overlays/autoscaled'} is of an earlier time" in done.stderr
    assert "overlays/monitored is" not in done.stderr
    assert "overlays/mine" not in done.stderr


def test_a_word_for_stdout_a_device_and_nothing(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = cli("render", "kubernetes", MODEL, *ON).stdout
    assert cli("render", "kubernetes", MODEL, *ON, "-o", "-").stdout == text
    assert cli("render", "kubernetes", MODEL, *ON, "-o", "/dev/null").code == 0
    assert cli("render", "kubernetes", MODEL, *ON, "-o", "k.YAML").code == 0
    assert (tmp_path / "k.YAML").is_file()
    assert cli("render", "kubernetes", MODEL, *ON, "-o", "").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["k.YAML"]


def test_every_variable_once(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, *ON, "--env", "A", "--env", "A", "--env", "HF_ENDPOINT",
               HF_ENDPOINT="https://hub.example")  # fmt: skip
    names = [one["name"] for one in container(done.stdout)["env"]]
    assert len(names) == len(set(names))


def test_a_proxy_whose_address_is_in_the_secret_can_be_reached(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, *ON, "--env", "HTTPS_PROXY", HTTPS_PROXY="http://u:s3cret@p:3128")
    *_, hub = documents(done.stdout)["NetworkPolicy"]["spec"]["egress"]
    assert [one["port"] for one in hub["ports"]] == [443, 3128]
    assert "s3cret" not in done.stdout + done.stderr


def test_what_is_likely_not_meant_is_a_warning(cli: Run) -> None:
    assert "does not hold the weights" in cli("render", "kubernetes", MODEL, *ON, "--cache-size", "1g").stderr
    mixed = cli("render", "kubernetes", MODEL, "--render-group", "109", "--image", "r/a:1", "--hardware",
                "MI300X:4,MI325X:4")  # fmt: skip
    assert "not all alike" in mixed.stderr


def test_an_address_with_a_password_is_not_written_down(cli: Run) -> None:
    done = cli(
        "render", "kubernetes", MODEL, *ON, "--with", "autoscaled-keda", "--prometheus", "http://u:s3cret@p:9090"
    )
    assert (done.code, done.last_words["class"]) == (10, "Input")
    assert "TriggerAuthentication" in done.last_words["hint"]
    assert "s3cret" not in done.stdout + done.stderr


def test_a_short_name(cli: Run) -> None:
    assert (
        documents(cli("render", "kubernetes", MODEL, *ON, "--name", "a").stdout)["Service"]["metadata"]["name"] == "a"
    )


def test_a_folder_that_cannot_be_written(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "k").write_text("a file")
    done = cli("render", "kubernetes", MODEL, *ON, "-o", str(tmp_path / "k"))
    assert (done.code, done.last_words["class"]) == (42, "Cache")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 10),
        ([MODEL, *ON, "--name", "A_b"], 10),
        ([MODEL, *ON, "--namespace", "a.b"], 10),
        ([MODEL, *ON, "--secret", "A"], 10),
        ([MODEL, *ON, "--replicas", "0"], 10),
        ([MODEL, *ON, "--render-group", "render"], 10),
        ([MODEL, *ON, "--render-group", "0"], 10),
        ([MODEL, *ON, "--user", "0"], 10),
        ([MODEL, *ON, "--spare-gpus", "some"], 10),
        ([MODEL, *ON, "--disk-speed", "fast"], 10),
        ([MODEL, *ON, "--disk-speed", "0"], 10),
        ([MODEL, *ON, "--compile-time", "1.5"], 10),
        ([MODEL, *ON, "--env", "1A=x"], 10),
        ([MODEL, *ON, "--env", "HF_TOKEN=x"], 10),
        ([MODEL, *ON, "--env", "HF_TOKEN"], 10),
        ([MODEL, *ON, "--with", "nothing"], 10),
        ([MODEL, *ON, "--name=--"], 2),
        ([MODEL, *ON, "-o--"], 2),
        ([MODEL, *ON, "--env", "A=1", "--env", "A"], 10),
        ([MODEL, *ON, "--nodes", "2", "--env", "VLLM_HOST_IP=10.0.0.1"], 10),
        ([MODEL, *ON, "--nodes", "2", "--leader-port", "8000"], 10),
        ([MODEL, *ON, "--memory", "8g", "--shm-size", "16g"], 10),
        ([MODEL, *ON, "--cache-claim", "there", "--storage-class", "fast"], 10),
        ([MODEL, *ON, "--cache-claim", "there", "--cache-size", "100g"], 10),
        ([MODEL, *ON, "--network-speed", "1"], 10),
        ([MODEL, *ON, "--cache-dir", "/data"], 10),
        ([MODEL, *ON, "--log-dir", "/data"], 10),
        ([MODEL, *ON, "--resource-naming", "mine"], 2),
        ([MODEL, "--hardware", "cpu", "--image", "--x"], 2),
        ([MODEL, *ON, "--json", "-o", "folder"], 2),
        ([MODEL, "--hardware", "MI250:8", "--min-evidence", "reported"], 30),
    ],
)
def test_what_is_wrong(cli: Run, words: list[str], code: int) -> None:
    done = cli("render", "kubernetes", *words)
    assert (done.code, done.stdout) == (code, "")
    assert done.last_words["code"] == code


def test_a_folder_s_hostile_name(cli: Run, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "-a b'\"$(id)é")
    done = cli("render", "kubernetes", str(folder), "--hardware", "cpu", "--model-claim", "models")
    found = {one["name"]: one.get("value") for one in container(done.stdout)["env"]}
    assert found["AIM_MODEL"] == f"/models/{folder.name}".replace("$", "$$")


def test_help_shows_how(cli: Run) -> None:
    shown = cli("render", "kubernetes", "--help").stdout
    assert "kubectl apply -k" in shown
    assert "--spare-gpus" in shown


def test_the_pod_s_plan_is_the_same_or_ends_it(cli: Run) -> None:
    """The very variables of the manifest, given to the command that plans in the pod."""
    done = cli("render", "kubernetes", MODEL, *ON, "--gpus", "4")
    told = {one["name"]: one["value"].replace("$$", "$") for one in container(done.stdout)["env"] if "value" in one}
    told.pop("AIM_CACHE_DIR")
    same = cli("plan", "--json", "--hardware", "MI300X:4", **told)
    assert (same.code, same.json["tensor_parallel_size"]) == (0, 4)
    for hardware in ("MI325X:4", "MI300X:2"):
        other = cli("plan", "--hardware", hardware, **told)
        assert other.code != 0
        assert other.last_words["message"]
    told["AIM_EXPECT_PLAN"] = told["AIM_EXPECT_PLAN"].replace('"data_parallel_size":1', '"data_parallel_size":2')
    other = cli("plan", "--hardware", "MI300X:4", **told)
    assert other.code == 10
    assert "data_parallel_size is 1, and 2 was expected" in other.last_words["message"]


def test_files_of_another_name_in_the_folder_are_said(cli: Run, tmp_path: Path) -> None:
    words = ("render", "kubernetes", MODEL, *ON, "-o", str(tmp_path / "k"), "--name")
    assert "earlier time" not in cli(*words, "one").stderr
    assert "earlier time" not in cli(*words, "one").stderr
    second = cli(*words, "two")
    assert (second.code, "deployment-one.yaml is of an earlier time" in second.stderr) == (0, True)
    assert "deployment-one" not in (tmp_path / "k/base/kustomization.yaml").read_text()


def test_the_profile_of_system_calls_and_a_short_name(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, *ON, "--seccomp", "unconfined", "--name", "k")
    deployment = documents(done.stdout)["Deployment"]
    assert deployment["metadata"]["name"] == "k"
    assert deployment["spec"]["template"]["spec"]["securityContext"]["seccompProfile"] == {"type": "Unconfined"}


def test_how_long_to_wait_is_what_a_start_may_take(cli: Run) -> None:
    def told(*words: str) -> tuple[str, Any]:
        text = cli("render", "kubernetes", MODEL, *ON, "--name", "k", *words).stdout
        (line,) = [one.removeprefix("# ") for one in text.splitlines() if "--timeout" in one and one.startswith("#")]
        return line, documents(text)

    line, found = told()
    seconds = found["Deployment"]["spec"]["progressDeadlineSeconds"]
    assert line == f"kubectl rollout status deployment/k --timeout {seconds}s"
    assert told("--local-cache", "--namespace", "m")[0].startswith("kubectl rollout status statefulset/k -n m --time")
    assert told("--nodes", "2")[0].startswith("kubectl wait --for=condition=Available leaderworkerset/k --timeout ")


def test_no_command_in_a_comment_is_broken_where_a_shell_would_not(cli: Run) -> None:
    text = cli("render", "kubernetes", MODEL, *ON, "--name", "k" * 50, "--namespace", "n" * 60).stdout
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    (at,) = [number for number, line in enumerate(lines) if line.startswith("kubectl rollout status")]
    assert lines[at].endswith("\\")
    assert lines[at + 1].strip().startswith("-n nnn")
    assert "--timeout " in lines[at + 1]
