"""ContainerSpec → what Docker is told: hostile texts arrive as data in the SDK's words, the argv and the shell line."""

from __future__ import annotations

import csv
import io
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.deploy.docker_words import create_words, restart_policy, run_line, run_words
from aim_engine.deploy.inside import Mount
from aim_engine.deploy.spec import ContainerSpec, container_spec
from aim_engine.errors import InputError
from tests.building import examples
from tests.deploy.planning import cpu_plan, planned, with_nodes

HOSTILE = ("it's", 'a "b"', "two words", "new\nline", "$(id) `id` $HOME ${X}", "-leading", "--privileged", "a,b=c",
           "é模", "", "\\", "a:b:ro", "\t")  # fmt: skip


def spec(**options: Any) -> ContainerSpec:
    return container_spec(planned(gpu_count="2", on=with_nodes()), groups=(109,), **options)


def values_of(words: list[str], flag: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == flag]


def from_line(line: str) -> list[str]:
    """What a shell makes of it."""
    script = line.replace("docker run", "printf '%s\\0' docker run", 1)
    said = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
    return [word.decode() for word in said.split(b"\0")[:-1]]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_value_is_data_everywhere(text: str) -> None:
    made = spec(extra={"X": text})
    assert f"X={text}" in values_of(run_words(made), "--env")
    assert f"X={text}" in values_of(from_line(run_line(made)), "--env")
    assert create_words(made, {})["environment"]["X"] == text


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


@examples(100)
@given(texts, texts)
def test_the_line_is_the_words(value: str, path: str) -> None:
    mount = Mount(source=f"/x{path}", target=f"/y{path}", read_only=True)
    made = replace(spec(), environment={"X": value}, mounts=(mount,))
    assert from_line(run_line(made)) == run_words(made)
    (text,) = values_of(run_words(made), "--mount")
    (fields,) = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert fields == ["type=bind", f"source=/x{path}", f"target=/y{path}", "readonly"]


def test_devices_and_nothing_more() -> None:
    made = spec()
    words = run_words(made)
    assert values_of(words, "--device") == ["/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD136"]
    assert values_of(words, "--group-add") == ["109"]
    assert values_of(words, "--cap-drop") == ["ALL"]
    assert values_of(words, "--security-opt") == ["no-new-privileges:true"]
    assert not {"--privileged", "--gpus", "--cap-add"} & set(words)
    host = create_words(made, {})["host_config"]
    assert host["devices"][0] == "/dev/kfd:/dev/kfd:rwm"
    assert host["group_add"] == ["109"]
    assert "privileged" not in host


def test_cdi_and_the_runtime_take_the_place_of_device_files() -> None:
    cdi = spec(cdi_devices=("amd.com/gpu=0", "amd.com/gpu=1"))
    assert values_of(run_words(cdi), "--device") == ["amd.com/gpu=0", "amd.com/gpu=1"]
    host = create_words(cdi, {})["host_config"]
    assert host["device_requests"] == [{"Driver": "cdi", "DeviceIDs": ["amd.com/gpu=0", "amd.com/gpu=1"]}]
    assert "devices" not in host
    runtime = spec(runtime="amd")
    assert values_of(run_words(runtime), "--runtime") == ["amd"]
    assert values_of(run_words(runtime), "--device") == []


def test_seccomp_is_open_only_when_asked() -> None:
    assert values_of(run_words(spec(seccomp="unconfined")), "--security-opt")[1:] == ["seccomp=unconfined"]


def test_the_host_s_network_publishes_nothing() -> None:
    made = container_spec(cpu_plan(port="9000", health_port="9001", host="127.0.0.1"), network="host")
    assert values_of(run_words(made), "--publish") == []
    said = {"AIM_HOST": "127.0.0.1", "AIM_PORT": "9000", "AIM_HEALTH_PORT": "9001"}
    assert said.items() <= made.environment.items()
    assert create_words(made, {})["host_config"]["network_mode"] == "host"


@pytest.mark.parametrize("network", ["none", "container:x", "-x", "a b", ""])
def test_a_network_nobody_could_reach(network: str) -> None:
    with pytest.raises(InputError, match="network"):
        spec(network=network)


def test_secrets_are_named_in_the_line_and_valued_only_in_the_sdk_s_words() -> None:
    made = container_spec(cpu_plan({"AIM_API_KEY": "s3cret"}))
    assert "s3cret" not in run_line(made)
    assert "AIM_API_KEY" in values_of(run_words(made), "--env")
    assert create_words(made, {"AIM_API_KEY": "s3cret"})["environment"]["AIM_API_KEY"] == "s3cret"
    assert "HF_TOKEN" not in create_words(made, {"AIM_API_KEY": "s3cret"})["environment"]
    with pytest.raises(InputError, match="AIM_API_KEY was set"):
        create_words(made, {})


@pytest.mark.parametrize(
    ("name", "hint"),
    [("", "NAME=VALUE"), ("A=B", "NAME=VALUE"), (" A", "NAME=VALUE"), ("AIM_PORT", "--port"),
     ("AIM_API_KEY", "environment"), ("HF_TOKEN_FILE", "environment")],
)  # fmt: skip
def test_a_variable_that_cannot_be_given(name: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        spec(extra={name: "x"})
    assert hint in caught.value.hint


def test_a_path_that_is_not_utf_8() -> None:
    made = replace(spec(), mounts=(Mount(source="/m/\udcff", target="/x"),))
    with pytest.raises(InputError, match="not UTF-8"):
        run_line(made)
    with pytest.raises(InputError, match="not UTF-8"):
        create_words(made, {})


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [("no", "no", 0), ("always", "always", 0), ("on-failure", "on-failure", 0), ("on-failure:7", "on-failure", 7)],
)
def test_restart(text: str, name: str, count: int) -> None:
    assert restart_policy(text) == {"Name": name, "MaximumRetryCount": count}


@pytest.mark.parametrize("text", ["", "never", "always:3", "on-failure:", "on-failure:x", "on-failure:-1", "No"])
def test_a_restart_policy_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="restart policy"):
        restart_policy(text)
