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
    assert bare <= {"true", "3"}


def test_secrets_are_references() -> None:
    plan = planned({"AIM_API_KEY": "s3cret-a", "HF_TOKEN": "s3cret-b"})
    text = compose_text(container_spec(plan))
    assert "s3cret" not in text
    environment = service_of(text)["environment"]
    assert environment["HF_TOKEN"] == "${HF_TOKEN:-}"
    assert environment["AIM_API_KEY"].startswith("${AIM_API_KEY:?")
    assert service_of(compose_text(container_spec(planned())))["environment"]["AIM_API_KEY"] == "${AIM_API_KEY:-}"


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


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_docker_compose_reads_it_so_too(tmp_path: Path) -> None:
    """`config` checks the file against the compose specification's schema and prints it with every `$` doubled.

    Without the rarer line breaks: its own printing makes blanks of them.
    """
    texts = [text for text in HOSTILE if not set(text) & set("\r\x85\u2028")]
    spec = replace(hostile("$(id) a:b '\"é", PLAN), arguments=("serve", *texts))
    path = tmp_path / "compose.yaml"
    path.write_text(compose_text(spec), encoding="utf-8")
    done = subprocess.run(
        ["docker-compose", "-f", str(path), "config"],
        env={"PATH": os.environ["PATH"], "HF_TOKEN": "t0ken", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (service,) = yaml.safe_load(done.stdout)["services"].values()
    assert [text.replace("$$", "$") for text in service["command"][1:]] == texts
    assert service["environment"]["AIM_MODEL"].replace("$$", "$") == "$(id) a:b '\"é"
    assert service["environment"]["HF_TOKEN"] == "t0ken"
    assert service["devices"][1] == "/dev/dri/renderD128:/dev/dri/renderD128"
