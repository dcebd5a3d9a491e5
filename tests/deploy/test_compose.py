"""ContainerSpec → compose text: golden files, hostile values, secrets, and docker-compose's own opinion."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aim_engine import __version__
from aim_engine.deploy.compose import compose_document, compose_text
from aim_engine.deploy.spec import container_spec
from aim_engine.errors import InputError
from aim_engine.plan import Plan
from tests.building import examples
from tests.deploy.planning import check_compose, cpu_plan, interpolated, planned, service_of, with_nodes

GOLDEN = Path(__file__).resolve().parent / "golden"

# what YAML 1.1 readers, shells, compose and terminals make something else of
HOSTILE = [
    "on", "No", "010", "0x10", "12:30:45", "1e3", "~", "null", "", " ", "- a", "a: b", "# a", "a #b", "*a", "&a", "!a",
    "'", '"', "\\", "\\n", "$HOME", "${HOME}", "$$", "$(id)", "`id`", "{{x}}", "%x", "@x", "a\tb", "a\rb", "\x85",
    "\u2028", "\ufeff", "é", "模型", "\U0001f600", "\x1b[31m", "--privileged", "=", "<<", "a\nb", "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "plan"),
    [("qwen3-32b-8-mi300x", planned(metric="latency")), ("cpu", cpu_plan(model="Qwen/Qwen3-0.6B"))],
)
def test_golden(name: str, plan: Plan) -> None:
    """To accept a change: AIM_GOLDEN=write pytest tests/deploy, then read the diff."""
    text = compose_text(container_spec(plan)).replace(__version__, "VERSION")
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("AIM_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_the_log_folder_is_in_the_file() -> None:
    service = service_of(compose_text(container_spec(cpu_plan(log_dir="/var/log/a: $b"), name="mine")))
    assert {"type": "bind", "source": "/var/log/a: $$b", "target": "/workspace/logs"} in service["volumes"]
    assert (service["environment"]["AIM_LOG_DIR"], service["environment"]["AIM_LOG_NAME"]) == (
        "/workspace/logs",
        "mine",
    )


def test_the_header_says_which_compose_it_needs() -> None:
    text = compose_text(container_spec(planned()))
    assert "# docker compose -f FILE up -d --wait\n#     (Compose 2; docker-compose 1.29 has no --wait" in text


def test_the_same_plan_gives_the_same_file() -> None:
    assert compose_text(container_spec(planned())) == compose_text(container_spec(planned()))


def hostile(text: str, plan: Plan) -> Any:
    """A spec with `text` wherever a text of a user's may stand."""
    spec = container_spec(plan)
    return replace(
        spec,
        environment={**spec.environment, "AIM_MODEL": text},
        labels={**spec.labels, "ai.aim-engine.model": text},
        arguments=("serve", text),
        mounts=tuple(replace(mount, source=f"/{text}", target=f"/{text}") for mount in spec.mounts),
        about=(text,),
    )


PLAN = planned(on=with_nodes())


def check_survives(text: str) -> None:
    service = service_of(compose_text(hostile(text, PLAN)))
    found = (
        service["environment"]["AIM_MODEL"],
        service["labels"]["ai.aim-engine.model"],
        service["command"][1],
        service["volumes"][0]["source"][1:],
        service["volumes"][0]["target"][1:],
    )
    assert {interpolated(one) for one in found} == {text}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_arrive_as_they_are(text: str) -> None:
    check_survives(text)


@examples(200)
@given(st.text())
def test_any_text_arrives_as_it_is(text: str) -> None:
    check_survives(text)


def test_a_path_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InputError, match="UTF-8"):
        compose_text(hostile("a\udcff", PLAN))


def test_every_text_is_quoted() -> None:
    body = compose_text(container_spec(PLAN)).partition("\n\n")[2]
    scalars = [line.split(": ", 1)[-1].removeprefix("- ").strip() for line in body.splitlines() if ":" in line]
    bare = {text for text in scalars if not text.startswith('"') and not text.endswith((":", '"'))}
    assert bare <= {"true", "3", "null"}


def test_secrets_are_references() -> None:
    plan = planned({"AIM_API_KEY": "s3cret-a", "HF_TOKEN": "s3cret-b"})
    text = compose_text(container_spec(plan))
    assert "s3cret" not in text
    environment = service_of(text)["environment"]
    assert environment["HF_TOKEN"] is None
    assert environment["AIM_API_KEY"].startswith("${AIM_API_KEY:?")
    environment = service_of(compose_text(container_spec(planned())))["environment"]
    assert environment["AIM_API_KEY"] is None, "handed on where it is set, and not as an empty one where it is not"


def test_groups_known_unknown_and_needed() -> None:
    def groups(**options: Any) -> Any:
        return service_of(compose_text(container_spec(planned(), **options))).get("group_add")

    assert groups(groups=(44, 109)) == ["44", "109"]
    assert groups() == ["${RENDER_GID:-0}"]
    assert groups(user="1000").pop().startswith("${RENDER_GID:?")
    assert groups(groups=()) is None
    assert "export RENDER_GID=" in compose_text(container_spec(planned()))
    assert "RENDER_GID" not in compose_text(container_spec(planned(), groups=(109,)))


def test_sizes() -> None:
    assert service_of(compose_text(container_spec(planned(), shm_bytes=65_000_001)))["shm_size"] == "65000001b"
    assert service_of(compose_text(container_spec(planned())))["shm_size"] == "16g"


def test_as_json_it_is_a_compose_file_too() -> None:
    spec = container_spec(planned(engine_args='{"middleware": ["$a"]}'))
    document = compose_document(spec)
    check_compose(document)
    assert yaml.safe_load(compose_text(spec)) == document


def test_the_header_stays_a_comment() -> None:
    text = compose_text(hostile("a\rb: c\u2028d\x1b[2J", PLAN))
    header = text.partition("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert "\x1b" not in header


def test_a_network_that_somebody_made_is_joined_and_not_made() -> None:
    document = compose_document(container_spec(planned(), network="models"))
    check_compose(document)
    (service,) = document["services"].values()
    assert service["networks"] == ["models"]
    assert document["networks"] == {"models": {"external": True, "name": "models"}}


@pytest.mark.parametrize(("network", "mode"), [("host", "host"), ("bridge", "bridge"), ("default", "bridge")])
def test_a_network_of_the_engine_s_own_is_a_mode(network: str, mode: str) -> None:
    document = compose_document(container_spec(planned(port="9000"), network=network))
    check_compose(document)
    (service,) = document["services"].values()
    assert service["network_mode"] == mode
    assert "networks" not in {**document, **service}
    assert ("ports" in service) is (network != "host")
    assert service["environment"].get("AIM_PORT") == ("9000" if network == "host" else None)


def test_swap_devices_by_name_and_a_profile() -> None:
    def service(**options: Any) -> dict[str, Any]:
        return service_of(compose_text(container_spec(planned(on=with_nodes()), **options)))

    assert service(memory_swap_bytes=-1)["memswap_limit"] == -1
    assert service(memory_bytes=2**36, memory_swap_bytes=2**37)["memswap_limit"] == "128g"
    named = service(cdi_devices=("amd.com/gpu=0", "amd.com/gpu=1"))
    assert "devices" not in named
    (wanted,) = named["deploy"]["resources"]["reservations"]["devices"]
    assert (wanted["driver"], wanted["device_ids"]) == ("cdi", ["amd.com/gpu=0", "amd.com/gpu=1"])
    ran = service(runtime="amd")
    assert (ran["runtime"], "devices" in ran) == ("amd", False)
    assert service(seccomp="unconfined")["security_opt"] == ["no-new-privileges:true", "seccomp=unconfined"]


def test_what_is_said_of_our_own_limits_is_not_said_of_others() -> None:
    ours = compose_text(container_spec(cpu_plan()))
    theirs = compose_text(container_spec(cpu_plan(), memory_bytes=2**36, restart="no"))
    assert "# mem_limit" in ours
    assert "# restart" in ours
    assert "# mem_limit" not in theirs
    assert "# restart" not in theirs


needs_compose = pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")


def read_by_compose(path: Path, **environment: str) -> Any:
    """What `docker-compose config` makes of a file, which it checks against the compose specification's schema."""
    done = subprocess.run(
        ["docker-compose", "-f", str(path), "config"],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


@needs_compose
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_docker_compose_reads_the_golden_files(path: Path) -> None:
    assert read_by_compose(path)["services"]


@needs_compose
def test_docker_compose_reads_every_field(tmp_path: Path) -> None:
    plan, path = planned(on=with_nodes()), tmp_path / "compose.yaml"
    spec = container_spec(plan, network="models", memory_bytes=2**36, memory_swap_bytes=-1, seccomp="unconfined",
                          cdi_devices=("amd.com/gpu=0",), runtime="amd", groups=(44,), user="1:2")  # fmt: skip
    path.write_text(compose_text(spec))
    (service,) = read_by_compose(path)["services"].values()
    assert service["memswap_limit"] == -1
    assert service["runtime"] == "amd"
    assert list(service["networks"]) == ["models"]
    assert "seccomp=unconfined" in str(service["security_opt"]).replace(":", "=")
    path.write_text(compose_text(container_spec(plan, network="host")))
    (service,) = read_by_compose(path)["services"].values()
    assert service["network_mode"] == "host"


@needs_compose
def test_docker_compose_reads_it_so_too(tmp_path: Path) -> None:
    """`config` prints the file with every `$` doubled.

    Without the rarer line breaks: its own printing makes blanks of them.
    """
    texts = [text for text in HOSTILE if not set(text) & set("\r\x85\u2028")]
    spec = replace(hostile("$(id) a:b '\"é", PLAN), arguments=("serve", *texts))
    path = tmp_path / "compose.yaml"
    path.write_text(compose_text(spec), encoding="utf-8")
    (service,) = read_by_compose(path, HF_TOKEN="t0ken")["services"].values()
    assert [text.replace("$$", "$") for text in service["command"][1:]] == texts
    assert service["environment"]["AIM_MODEL"].replace("$$", "$") == "$(id) a:b '\"é"
    assert service["environment"]["HF_TOKEN"] == "t0ken"
    assert service["devices"][1] == "/dev/dri/renderD128:/dev/dri/renderD128"
