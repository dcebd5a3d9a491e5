"""The SDK's words and the `docker run` line make the same container, as `docker inspect` says; nothing is executed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.deploy.docker import connect
from aim_engine.deploy.docker_words import run_line, run_words
from aim_engine.deploy.inside import Mount
from aim_engine.deploy.launch_create import create
from aim_engine.deploy.spec import ContainerSpec, container_spec
from tests.deploy.planning import cpu_plan, planned, with_nodes
from tests.image.containers import LABEL, docker

pytestmark = pytest.mark.image

HOSTILE = 'it\'s "quoted" $(touch /tmp/x) `id` $HOME\n--privileged é模 \\ a,b=c:ro'
SECRETS = {"AIM_API_KEY": "s3cret 'of' $the tests", "HF_TOKEN": "hf-s3cret"}


def gpus(**options: Any) -> ContainerSpec:
    return container_spec(planned(gpu_count="2", on=with_nodes()), groups=(109, 44), **options)


def hostile(folder: Path) -> ContainerSpec:
    odd = folder / 'it\'s, "odd" $(id) é -x:ro'
    odd.mkdir()
    made = container_spec(cpu_plan(SECRETS, host="127.0.0.1"), extra={"-X Y": HOSTILE, "EMPTY": ""}, user="54321:100")
    return replace(
        made,
        mounts=(*made.mounts, Mount(source=str(odd), target=f"/models/{odd.name}", read_only=True)),
        labels={**made.labels, "odd": HOSTILE},
        arguments=("-c", HOSTILE, "--help", ""),
    )


SPECS: dict[str, Callable[[Path], ContainerSpec]] = {
    "gpus": lambda _: gpus(),
    "limits": lambda _: gpus(memory_bytes=2**31, memory_swap_bytes=3 * 2**30, shm_bytes=2**28, restart="always",
                             seccomp="unconfined", log_options={"max-size": "1m"}),
    "cdi": lambda _: gpus(cdi_devices=("amd.com/gpu=0", "amd.com/gpu=1")),
    "host": lambda _: gpus(network="host", restart="no"),
    "six": lambda _: container_spec(cpu_plan(host="::1"), network="bridge", memory_swap_bytes=-1),
    "hostile": hostile,
}  # fmt: skip


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("written", ["words", "line"])
def test_both_make_the_same_container(kind: str, written: str, empty_image: str, tmp_path: Path) -> None:
    made = SPECS[kind](tmp_path)
    made = replace(made, image=empty_image, labels={**made.labels, LABEL: ""})
    with closing(connect(os.environ)) as client:
        ours = create(client, replace(made, name=f"{LABEL}-sdk"), SECRETS)
    theirs = by_command(replace(made, name=f"{LABEL}-command"), written)
    try:
        assert facts(ours) == facts(theirs)
    finally:
        docker("rm", "--force", ours, theirs)


def by_command(spec: ContainerSpec, written: str) -> str:
    """The line, given to a shell; or the words. Both with `create` for `run`: the image holds nothing to start."""
    environment = {**os.environ, **SECRETS}
    argv = ["docker", "create", *run_words(spec)[3:]]
    if written == "line":
        argv = ["sh", "-c", run_line(spec).replace("docker run --detach", "docker create", 1)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def facts(container: str) -> dict[str, Any]:
    """What `docker inspect` says of it, but for the words in which client and SDK leave out the same thing."""
    (said,) = json.loads(docker("inspect", container).stdout)
    config, host = said["Config"], said["HostConfig"]
    for key in ("Hostname", "AttachStdout", "AttachStderr"):  # the id, and what a foreground run would attach
        config.pop(key, None)
    config["Env"] = sorted(config["Env"])
    host.pop("ConsoleSize", None)
    return {"config": _without_nothing(config), "host": _without_nothing(host), "arguments": said["Args"]}


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_nothing(one) for key, one in value.items()}
        return {key: one for key, one in kept.items() if one not in (None, [], {}, "", False, 0, "default")}
    return [_without_nothing(one) for one in value] if isinstance(value, list) else value


def test_what_is_compared_is_there(empty_image: str, tmp_path: Path) -> None:
    """Or two empty answers would be equal too."""
    made = replace(hostile(tmp_path), image=empty_image, name=f"{LABEL}-facts")
    with closing(connect(os.environ)) as client:
        container = create(client, replace(made, labels={**made.labels, LABEL: ""}), SECRETS)
    try:
        found = facts(container)
    finally:
        docker("rm", "--force", container)
    assert f"-X Y={HOSTILE}" in found["config"]["Env"]
    assert found["config"]["Labels"]["odd"] == HOSTILE
    assert found["config"]["StopTimeout"] == made.stop_seconds
    assert found["host"]["Mounts"][-1]["Target"] == made.mounts[-1].target
    assert found["host"]["CapDrop"] == ["ALL"]
    assert found["host"]["PortBindings"]["8000/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8000"}]
