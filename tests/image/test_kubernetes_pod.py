"""A rendered pod, as far as Docker can be one: the manifest's own user, groups, variables, mounts, limits, probes and
preStop; it serves, drains a stream, and says what is different where the plan is another one.

One container for all of these tests but the last, which ends before its engine starts.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from aim_engine.cli.main import main
from tests.image.containers import Container, docker
from tests.image.test_hardened import stream

pytestmark = pytest.mark.image

LOG = "/dev/termination-log"


@pytest.fixture(scope="module")
def pod(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The pod of a Deployment rendered for the tiny model on a CPU."""
    file = tmp_path_factory.mktemp("manifest") / "pod.yaml"
    words = ["--hardware", "cpu", "--model-claim", "models", "--name", "tiny", "--image", "example.com/aim-cpu",
             "--start-timeout", "600", "--drain-timeout", "240", "-o", str(file)]  # fmt: skip
    assert main(["render", "kubernetes", str(tiny), *words]) == 0
    deployment = next(one for one in yaml.safe_load_all(file.read_text()) if one["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]


def as_docker_run(pod: Any, tiny: Path, log: Path, **changed: str) -> list[str]:
    """The pod's fields as options of docker run; every one that is not known here fails."""
    (container,) = pod["containers"]
    security = pod["securityContext"]
    log.write_text("")
    log.chmod(0o666)
    options = [
        *("--user", f"{security['runAsUser']}:{security['runAsGroup']}", "--group-add", str(security["fsGroup"])),
        *("--read-only", "--cap-drop", *container["securityContext"]["capabilities"]["drop"]),
        *("--security-opt", "no-new-privileges", "--memory", size(container["resources"]["limits"]["memory"])),
        *("--publish", "127.0.0.1::8000", "--publish", "127.0.0.1::8080", "--volume", f"{log}:{LOG}"),
    ]
    volumes = {one["name"]: one for one in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume, target = volumes[mount["name"]], mount["mountPath"]
        if (empty := volume.get("emptyDir")) and empty.get("medium") == "Memory":
            options += ["--shm-size", size(empty["sizeLimit"])]
            assert target == "/dev/shm"
        elif empty is not None:  # as the kubelet makes it: writable for all, of the pod's group
            options += ["--tmpfs", f"{target}:rw,exec,nosuid,nodev,mode=2777,gid={security['fsGroup']}"]
        elif mount["name"] == "model":
            assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
            options += ["--volume", f"{tiny}:{target}:ro"]
        else:
            assert mount["name"] == "cache"
            options += ["--volume", target]
    for one in container["env"]:
        if "value" in one:
            options += ["--env", f"{one['name']}={changed.get(one['name'], one['value'].replace('$$', '$'))}"]
    return options


def size(quantity: str) -> str:
    found = re.fullmatch(r"(\d+)([GM])i", quantity)
    assert found, quantity
    return found[1] + found[2].lower()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "termination-log"


@pytest.fixture(scope="module")
def running(image: str, pod: Any, tiny: Path, log: Path) -> Iterator[Container]:
    container = Container(image, *pod["containers"][0]["args"], options=as_docker_run(pod, tiny, log))
    yield container
    docker("rm", "--force", "--volumes", container.id)


def probed(pod: Any, running: Container, name: str) -> int:
    probe = pod["containers"][0][f"{name}Probe"]["httpGet"]
    (port,) = [one["containerPort"] for one in pod["containers"][0]["ports"] if one["name"] == probe["port"]]
    return running.get(probe["path"], port=port)[0]


def test_the_probes_tell_the_phases_apart(pod: Any, running: Container) -> None:
    running.until(lambda: probed(pod, running, "liveness") == 200, 60, "the sidecar answers")
    if running.get("/health/ready")[0] != 200:  # the engine takes much longer than the sidecar
        assert probed(pod, running, "startup") == 503
        assert probed(pod, running, "readiness") == 503
    seconds = running.until_ready()
    assert [probed(pod, running, name) for name in ("startup", "readiness", "liveness")] == [200, 200, 200]
    probe = pod["containers"][0]["startupProbe"]
    assert seconds < probe["periodSeconds"] * probe["failureThreshold"]


def test_it_serves_and_drains_as_the_kubelet_ends_it(pod: Any, running: Container, log: Path) -> None:
    """preStop first, while everything goes on; then SIGTERM, and the grace period that is left."""
    import http.client

    running.until_ready()
    address = urlsplit(running.url(8000))
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    chunks: list[str] = []
    model = json.loads(running.get("/v1/models", port=8000)[1])["data"][0]["id"]
    streaming = threading.Thread(target=stream, args=(connection, chunks, model, 300))
    asked = time.monotonic()
    docker("exec", running.id, *pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"])
    assert time.monotonic() - asked >= 10
    assert probed(pod, running, "readiness") == 200
    streaming.start()
    running.until(lambda: len(chunks) > 5, 30, "the stream has begun")
    assert len(chunks) < 300
    grace = pod["terminationGracePeriodSeconds"] - 10
    docker("stop", "--time", str(grace), running.id, seconds=grace + 30)
    streaming.join()
    assert chunks[-1] == "[DONE]"
    assert running.inspect(".State.ExitCode") == 0
    assert json.loads(log.read_text())["class"] == "Drained"


def test_another_plan_than_the_manifest_s_ends_the_pod_and_says_what_is_different(
    image: str, pod: Any, tiny: Path, log: Path
) -> None:
    expected = next(one["value"] for one in pod["containers"][0]["env"] if one["name"] == "AIM_EXPECT_PLAN")
    changed = json.dumps({**json.loads(expected), "data_parallel_size": 7})
    container = Container(image, "serve", options=as_docker_run(pod, tiny, log, AIM_EXPECT_PLAN=changed))
    try:
        assert container.wait() == 10
        assert "data_parallel_size is 1, and 7 was expected" in container.words()["message"]
        assert json.loads(log.read_text()) == container.words()
    finally:
        docker("rm", "--force", "--volumes", container.id)
