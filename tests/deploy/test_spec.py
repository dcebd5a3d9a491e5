"""Plan → ContainerSpec: names, what the container is told, devices, mounts, limits."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.deploy import inside
from aim_engine.deploy.names import container_name
from aim_engine.deploy.spec import LABEL, ContainerSpec, container_spec
from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, make_plan
from aim_engine.request import SETTINGS, read_request
from tests.building import CPU_ENGINE, GIB, MODEL, ROCM, cpu_here, examples, here
from tests.deploy.planning import catalog, cpu_plan, planned, with_nodes

DOCKER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,62}")


def spec(plan: Plan | None = None, **options: Any) -> ContainerSpec:
    return container_spec(plan or planned(), **options)


def test_the_specification_s_name() -> None:
    assert spec(planned(gpu_count="4")).name == "aim-engine-qwen-qwen3-32b-4gpu-bf16-vllm"
    assert spec(cpu_plan(model="Qwen/Qwen3-0.6B")).name == "aim-engine-qwen-qwen3-0-6b-cpu-bf16-vllm"
    assert spec(cpu_plan(model="/home/me/My Model")).name == "aim-engine-my-model-cpu-bf16-vllm"


@examples(100)
@given(st.text(min_size=1).filter(lambda text: text.strip() and not set(text) & set("\n\x00")))
def test_any_folder_gives_a_docker_name(folder: str) -> None:
    assert DOCKER_NAME.fullmatch(container_name(cpu_plan(model=f"/models/{folder}")))


def test_long_and_letterless_names_stay_apart() -> None:
    names = {container_name(cpu_plan(model=f"/m/{text}")) for text in ("模型", "数据", "x" * 90, "x" * 91)}
    assert len(names) == 4
    assert all(DOCKER_NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize("name", ["", "-v", "a", "a b", "a/b", "a\n", "x" * 64, "ä1", "$(id)"])
def test_a_name_docker_would_refuse(name: str) -> None:
    with pytest.raises(InputError, match="container"):
        spec(name=name)


@pytest.mark.parametrize(
    "image",
    [
        "a",
        "r:5000/a/b-c__d.e:T_1.x",
        f"r.example/a:1@sha256:{'a' * 64}",
        f"sha256:{'b' * 64}",
        "[::1]:5000/a",
        "R.example/a",
    ],
)
def test_images_of_every_form(image: str) -> None:
    assert container_spec(planned(), image=image).image == image


@pytest.mark.parametrize(
    "image",
    [
        "",
        "-v/:/host",
        "a b",
        "a$b",
        "a\n",
        "ä",
        "http://r/a:1",
        "a:",
        "a/",
        "r/a:-x",
        "r/a@",
        "a:b:c",
        "r/A",
        "x" * 600,
    ],
)
def test_an_image_that_is_none(image: str) -> None:
    with pytest.raises(InputError, match="image"):
        spec(image=image)


@pytest.mark.parametrize("user", ["root", "1000:", "-1", "", "1000 "])
def test_a_user_that_is_no_number(user: str) -> None:
    with pytest.raises(InputError, match="user"):
        spec(user=user)


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "0.0.0.0"), ("localhost", "127.0.0.1"), ("::1", "[::1]"), ("192.0.2.7", "192.0.2.7")],
)
def test_the_address_is_the_host_s(host: str, shown: str) -> None:
    made = spec(planned(host=host, port="9000", health_port="9001"))
    assert [(port.address, port.published, port.target) for port in made.ports] == [
        (shown, 9000, 8000),
        (shown, 9001, 8080),
    ]
    assert not made.environment.keys() & {"AIM_HOST", "AIM_PORT", "AIM_HEALTH_PORT"}


@pytest.mark.parametrize("host", ["example.org", "fe80::1%eth0", "0.0.0.0:80", "$(id)"])
def test_an_address_ports_cannot_be_published_on(host: str) -> None:
    with pytest.raises(InputError, match="AIM_HOST"):
        spec(planned(host=host))


GIVEN: list[dict[str, str]] = [
    {},
    {"gpu_count": "4"},
    {"metric": "throughput"},
    {"max_model_len": "auto", "concurrency": "3"},
    {"precision": "fp8", "max_model_len": "2048"},
    {"engine_args": '{"max-num-seqs": 7, "x-y": ["$HOME", "\'", "é"]}'.replace('"x-y"', '"middleware"')},
    {
        "recipe": "qwen3-32b-mi300x-fp8",
        "offline": "1",
        "fallback": "0",
        "drain_timeout": "12.5",
        "keep_alive": "1",
        "sanity": "1",
    },
    {"start_timeout": "auto", "min_evidence": "derived", "log_format": "json", "log_level": "warn"},
]


@pytest.mark.parametrize("flags", GIVEN)
@pytest.mark.parametrize("on", [None, with_nodes()], ids=["declared", "known nodes"])
def test_inside_the_same_plan_is_made(flags: dict[str, str], on: Inventory | None) -> None:
    outer = planned(on=on, **flags)
    inner = _planned_inside(outer, here(f"MI300X:{outer.winner.gpu_count if on else 8}"))
    assert _decision(inner) == _decision(outer)


@pytest.mark.parametrize("flags", [{}, {"max_model_len": "512"}, {"model": "Qwen/Qwen3-0.6B"}])
def test_inside_the_same_plan_is_made_for_a_cpu(flags: dict[str, str]) -> None:
    outer = cpu_plan(**flags)
    made = container_spec(outer)
    assert made.memory_bytes is not None
    inner = _planned_inside(outer, cpu_here(made.memory_bytes, made.memory_bytes - GIB // 4))
    assert _decision(inner) == _decision(outer)
    assert made.environment["AIM_HARDWARE"] == "cpu"


def _planned_inside(outer: Plan, on: Inventory) -> Plan:
    request = read_request({}, dict(container_spec(outer).environment))
    assert request.warnings == ()
    engine = CPU_ENGINE if on.gpus[0].product == "CPU" else ROCM
    found = make_plan(request, on, catalog(request, on), engine)
    assert isinstance(found, Plan), found
    return found


def _decision(plan: Plan) -> dict[str, Any]:
    words = plan.as_json()
    same = ("recipe_id", "model_id", "huggingface_id", "backend", "precision", "metric", "gpu_count",
            "tensor_parallel_size", "data_parallel_size", "max_model_len", "concurrency")  # fmt: skip
    options = [word for word in plan.command.argv if word.startswith("--")]
    return {**{key: words[key] for key in same}, "options": options}


@pytest.mark.parametrize("setting", [one for one in SETTINGS if not one.secret], ids=lambda one: one.variable)
@pytest.mark.parametrize("text", [None, "1", "90.5", "auto", "recipe", '{"a": "ü$", "b": [1.5, true]}', "error", "fp8"])
def test_a_setting_s_text_reads_back(setting: Any, text: str | None) -> None:
    text = setting.default if text is None else text
    try:
        value = setting.parse(text) if text is not None else None
    except ValueError:
        return
    written = inside.as_text(setting, value)
    assert (setting.parse(written) if written else None) == value


def test_secrets_are_names_only() -> None:
    made = spec(planned({"AIM_API_KEY": "s3cret-a", "HF_TOKEN": "s3cret-b", "HF_ENDPOINT": "https://u:s3cret-c@hub"}))
    assert "s3cret" not in repr(made) + json.dumps(made.as_json())
    assert {one.name: one.required for one in made.passed} == {
        "AIM_API_KEY": True,
        "HF_TOKEN": False,
        "HF_ENDPOINT": True,
    }
    assert {one.name: one.required for one in spec().passed} == {"AIM_API_KEY": False, "HF_TOKEN": False}


def test_the_user_s_own_value_of_a_recipe_s_variable_goes_along() -> None:
    made = spec(planned({"VLLM_ROCM_USE_AITER": "0", "HOME": "/home/me", "HF_HOME": "/data"}))
    assert made.environment["VLLM_ROCM_USE_AITER"] == "0"
    assert not made.environment.keys() & {"HOME", "HF_HOME"}


def test_only_the_planned_gpus_are_passed() -> None:
    made = spec(planned(on=with_nodes(), gpu_count="2"), groups=(109,))
    assert made.devices == ("/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD136")
    assert made.groups == (109,)
    assert made.labels[LABEL + "gpus"] == "0000:00:00.0,0000:01:00.0"
    assert not any("whole" in line for line in made.remarks)


@pytest.mark.parametrize("node", [None, "/dev/sda", "/dev/dri/renderD128:/dev/sda", "/dev/dri/../mem"])
def test_unknown_nodes_mean_the_whole_folder(node: str | None) -> None:
    found = with_nodes("MI300X:1")
    on = replace(found, gpus=(replace(found.gpus[0], render_node=node),))
    made = spec(planned(on=on))
    assert made.devices == ("/dev/kfd", "/dev/dri")
    assert any("whole" in line for line in made.remarks)


def test_a_cpu_gets_no_device_and_no_group() -> None:
    made = spec(cpu_plan(), groups=(109,))
    assert (made.devices, made.groups) == ((), ())
    assert made.labels[LABEL + "gpu-count"] == "0"


def test_another_vendor_is_refused_in_a_sentence() -> None:
    plan = planned()
    gpu = replace(plan.winner.gpus[0], vendor="acme")
    with pytest.raises(InputError, match="acme"):
        spec(replace(plan, winner=replace(plan.winner, gpus=(gpu,))))


def test_shared_memory_and_memory() -> None:
    assert spec(planned(gpu_count="1")).shm_bytes == GIB
    assert spec(planned(gpu_count="2")).shm_bytes == 16 * GIB
    assert spec(planned(gpu_count="2"), shm_bytes=32 * GIB).shm_bytes == 32 * GIB
    assert spec().memory_bytes is None
    assert spec(memory_bytes=64 * GIB).memory_bytes == 64 * GIB
    plan = cpu_plan()
    limit = spec(plan).memory_bytes
    assert plan.ledger is not None
    assert limit is not None
    assert limit % GIB == 0
    assert plan.ledger.total_bytes * 1.25 < limit < plan.ledger.total_bytes * 1.25 + 3 * GIB


def test_no_limit_above_what_is_there() -> None:
    assert spec(planned(on=cpu_here(5 * GIB, 5 * GIB), max_model_len="512")).memory_bytes is None


def test_the_stop_waits_for_the_drain_and_the_start_for_the_model() -> None:
    plan = planned(drain_timeout="300", start_timeout="4000")
    assert spec(plan).stop_seconds > 300
    assert spec(plan).health.start_seconds == 4000


def test_nothing_is_opened() -> None:
    made = spec()
    assert made.read_only
    assert made.ipc == "private"
    assert made.capabilities_dropped == ("ALL",)
    assert made.security_options == ("no-new-privileges:true",)
    assert made.tmpfs == ("/tmp:rw,exec,nosuid,nodev,mode=1777",)
    assert made.restart == "on-failure:3"


def test_folders_and_files_of_the_host(tmp_path: Path) -> None:
    folder = tmp_path / "a:b ' $(id)"
    flags = {"model": str(folder), "cache_dir": "/data/x/../cache", "recipes_dir": "/etc/r", "models_dir": "/etc/m",
             "tls_cert": "/etc/c.pem", "tls_key": "/etc/k.pem", "state_dir": "/run/aim"}  # fmt: skip
    made = spec(cpu_plan(**flags))
    assert [(mount.source, mount.target, mount.read_only) for mount in made.mounts] == [
        ("/data/cache", "/workspace/model-cache", False),
        (str(folder), f"/models/{folder.name}", True),
        ("/etc/r", "/config/recipes", True),
        ("/etc/m", "/config/models", True),
        ("/etc/c.pem", "/config/tls/cert.pem", True),
        ("/etc/k.pem", "/config/tls/key.pem", True),
    ]
    environment = made.environment
    assert environment["AIM_MODEL"] == f"/models/{folder.name}"
    assert environment["AIM_RECIPES_DIR"] == "/config/recipes"
    assert environment["AIM_TLS_KEY"] == "/config/tls/key.pem"
    assert "AIM_STATE_DIR" not in environment
    assert made.labels[LABEL + "scheme"] == "https"
    assert any("AIM_STATE_DIR" in line for line in made.remarks)


def test_the_log_folder_is_mounted_and_the_file_has_the_container_s_name() -> None:
    flags = {"log_dir": "/var/../var/log/aim", "log_file_size": "1m", "log_file_count": "3"}
    made = spec(cpu_plan(**flags), name="mine")
    assert [(mount.target, mount.read_only) for mount in made.mounts if mount.source == "/var/log/aim"] == [
        ("/workspace/logs", False)
    ]
    inner = read_request({}, dict(made.environment))
    assert inner.log_file == Path("/workspace/logs/mine.log")
    assert (inner.log_file_size, inner.log_file_count) == (2**20, 3)
    assert spec(cpu_plan(log_dir="/l", log_name="theirs")).environment["AIM_LOG_NAME"] == "theirs"
    assert "AIM_LOG_NAME" not in spec(cpu_plan(log_name="theirs")).environment


def test_a_snapshot_is_mounted_with_the_files_its_links_lead_to() -> None:
    made = spec(cpu_plan(model="/c/hub/models--Qwen--Q/snapshots/0a1b"))
    assert made.environment["AIM_MODEL"] == "/models/models--Qwen--Q/snapshots/0a1b"
    assert made.mounts[1].source == "/c/hub/models--Qwen--Q"


def test_the_cache_is_a_volume_unless_a_folder_was_given() -> None:
    (cache,) = spec().mounts
    assert (cache.source, cache.is_volume, cache.read_only) == ("aim-engine-cache", True, False)


def test_labels_say_all_that_a_list_needs() -> None:
    labels = {name.removeprefix(LABEL): text for name, text in spec(planned(port="9000")).labels.items()}
    assert labels.keys() >= {"version", "model", "recipe", "backend", "precision", "gpu-count", "port", "health-port"}
    assert (labels["model"], labels["gpu-count"], labels["port"]) == (MODEL, "8", "9000")


IN_THE_IMAGE = {"AIM_CACHE_DIR": "/workspace/model-cache", "AIM_IMAGE_CACHE": "/opt/aim-engine/cache"}


def test_the_image_s_own_cache_is_no_folder_of_the_host() -> None:
    made = spec(planned(IN_THE_IMAGE))
    assert [mount.source for mount in made.mounts] == ["aim-engine-cache"]
    assert not any("rendered inside" in line for line in made.remarks)
    for environment, flags in (
        ({"AIM_CACHE_DIR": "/workspace/model-cache"}, {}),  # a host's own
        (IN_THE_IMAGE, {"cache_dir": "/workspace/model-cache"}),
        ({**IN_THE_IMAGE, "AIM_CACHE_DIR": "/data"}, {}),
    ):
        assert spec(planned(environment, **flags)).mounts[0].source in ("/workspace/model-cache", "/data")


def test_paths_seen_from_inside_the_image_are_told_apart() -> None:
    (line,) = [line for line in spec(cpu_plan(IN_THE_IMAGE, model="/models/tiny")).remarks if "rendered inside" in line]
    assert line.startswith("rendered inside a container: /models/tiny is its path")
    both = spec(cpu_plan({**IN_THE_IMAGE, "AIM_RECIPES_DIR": "/r"}, model="/models/tiny")).remarks
    assert any(line.startswith("rendered inside a container: /models/tiny, /r are its paths") for line in both)
    assert not any("rendered inside" in line for line in spec(cpu_plan(model="/models/tiny")).remarks)


@pytest.mark.parametrize("nodes", [True, False])
def test_the_user_s_choice_of_gpus_goes_along_where_all_are_passed(nodes: bool) -> None:
    found = with_nodes("MI300X:2") if nodes else here("MI300X:2")
    chosen = replace(found, visibility=("HIP_VISIBLE_DEVICES=2,3", "ROCR_VISIBLE_DEVICES=4,5,6,7"))
    environment = spec(planned({"HIP_VISIBLE_DEVICES": "2,3"}, on=chosen)).environment
    passed = {name: text for name, text in environment.items() if name.endswith("VISIBLE_DEVICES")}
    assert passed == ({} if nodes else {"HIP_VISIBLE_DEVICES": "2,3", "ROCR_VISIBLE_DEVICES": "4,5,6,7"})


def test_a_label_says_what_to_call_the_model_in_requests() -> None:
    label = LABEL + "served-model"
    assert spec(planned()).labels[label] == MODEL
    assert spec(cpu_plan(model="./tiny-models/tiny")).labels[label] == "tiny"
    assert spec(cpu_plan(model="/hub/models--a--b/snapshots/123")).labels[label] == "123"
