"""A container as locked up as it can be serves all the same: an arbitrary user without a passwd entry, a read-only
root, no capability, no new privileges; with a key, offline, and saying everything in JSON.

One container for all of these tests; the warm start at the end takes over its volume, with TLS and as root.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from tests.image.conftest import KEY, Start, serving
from tests.image.containers import Container, docker, trusting

pytestmark = pytest.mark.image

MODELINFO = "vllm/modelinfos/vllm-model_executor-models-qwen3-Qwen3ForCausalLM.json"
# Every socket that leads out of the container, seen from its start until it is ready: the lines of /proc/net/* with a
# remote address, without loopback's and without answers to those who asked us. (proc_net_tcp.txt in the kernel)
WATCH = """
import http.client, time
ours = {"1F40", "1F90"}  # 8000, 8080
loopback = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
seen, looks, end = set(), 0, time.monotonic() + 150
while time.monotonic() < end:
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in open("/proc/net/" + table).read().splitlines()[1:]:
            local, remote = (word.split(":") for word in line.split()[1:3])
            if int(remote[0], 16) and remote[0] not in loopback and local[1] not in ours:
                seen.add(table + " " + remote[0] + ":" + remote[1])
    looks += 1
    if looks % 50 == 0:
        try:
            asked = http.client.HTTPConnection("127.0.0.1", 8080, timeout=1)
            asked.request("GET", "/health/ready")
            if asked.getresponse().status == 200:
                break
        except OSError:
            pass
    time.sleep(0.01)
print(looks, *sorted(seen))
"""


@pytest.fixture(scope="module")
def connections(hardened: Container) -> list[str]:
    """The number of looks, and every connection to somewhere else while it started."""
    return hardened.python(WATCH).split()


@pytest.fixture(scope="module")
def ready(hardened: Container, connections: list[str]) -> Container:
    hardened.until_ready()
    return hardened


@pytest.fixture(scope="module")
def client(ready: Container) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{ready.url(8000)}/v1", api_key=KEY, timeout=60, max_retries=0)


def test_offline_connects_to_nobody(connections: list[str]) -> None:
    assert int(connections[0]) > 200
    assert connections[1:] == []


def test_it_answers(client: openai.OpenAI) -> None:
    """Through the published port, as any user of it would ask."""
    answer = client.chat.completions.create(
        model="/models/tiny", messages=[{"role": "user", "content": "Who are you?"}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage
    assert answer.usage.completion_tokens == 8


def test_without_the_key_nothing_but_health_answers(ready: Container) -> None:
    assert ready.get("/health", port=8000)[0] == 200
    assert ready.get("/v1/models", port=8000)[0] == 401
    assert ready.get("/metrics", port=8000)[0] == 401
    assert ready.get("/v1/models", port=8000, headers={"Authorization": f"Bearer {KEY}"})[0] == 200


def test_the_key_is_shown_nowhere(ready: Container) -> None:
    shown = {
        "docker top": docker("top", ready.id, "-eo", "pid,args").stdout,
        "argv of every process": ready.execute("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        "docker logs": ready.logs(),
        "the state folder": ready.execute("sh", "-c", "cat /tmp/aim-engine-*/8000/*.json"),
        **{path: ready.get(path)[1] for path in ("/plan", "/status", "/metrics", "/health/ready")},
    }
    assert all(shown.values())
    assert [where for where, text in shown.items() if KEY in text] == []


def test_pid_1_is_ours_and_reaps(ready: Container) -> None:
    """Orphans of any origin become its children; it must not let them become zombies."""
    assert b"__main__.py boot" in ready.execute("sh", "-c", "tr '\\0' ' ' </proc/1/cmdline").encode()
    for _ in range(5):
        ready.execute("sh", "-c", "(sleep 0.3 &) ; (true &)")
    states = (
        "import glob\nprint(*(open(p).read().rpartition(')')[2].split()[0] for p in glob.glob('/proc/[0-9]*/stat')))"
    )
    deadline = time.monotonic() + 5
    while "Z" in (found := ready.python(states).split()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "Z" not in found


def test_the_supervisors_socket_is_private(ready: Container) -> None:
    folder = "/tmp/aim-engine-54321/8000"
    modes = ready.execute("stat", "-c", "%a %u", "/tmp/aim-engine-54321", folder, f"{folder}/supervisor.sock")
    assert modes.split("\n")[:3] == ["700 54321"] * 3


def test_every_line_of_the_log_is_json(ready: Container) -> None:
    """One merged stream; the engine's lines are in it."""
    lines = [json.loads(line) for line in ready.logs().splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    text = json.dumps(lines)
    assert "Application startup complete" in text
    assert "cpu-any-bf16" in text


def test_the_images_inspection_of_the_model_is_used(ready: Container) -> None:
    """Not made anew, which takes seconds: vLLM says so, and the file is the image's."""
    assert "from cache" in "".join(line for line in ready.logs().splitlines() if "Loaded model info" in line)
    ready.execute("cmp", f"/workspace/model-cache/{MODELINFO}", f"/opt/aim-engine/cache/{MODELINFO}")


def test_docker_calls_it_healthy(ready: Container) -> None:
    ready.until(lambda: ready.inspect(".State.Health.Status") == "healthy", 30, "waiting for docker's health check")
    ready.execute("env", "AIM_HEALTH_PORT=8080", *ready.inspect(".Config.Healthcheck.Test")[1:])
    # the running server's own port is what counts, whatever the variable of whoever asks says
    ready.execute("env", "AIM_HEALTH_PORT=8081", *ready.inspect(".Config.Healthcheck.Test")[1:])


# --- the second container on the same volume: root, TLS, text, drained by docker stop --------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem"], check=True, capture_output=True)  # fmt: skip
    return folder


def test_a_warm_start_with_tls_that_drains(
    ready: Container, start: Start, tiny: Path, volume: str, certificate: Path
) -> None:
    """The cache of the first container serves the second, and a stop lets a request in flight finish."""
    docker("stop", "--time", "30", ready.id)
    assert ready.inspect(".State.ExitCode") == 0
    assert ready.words()["class"] == "Drained"
    second = start(options=serving(
        tiny, "--volume", f"{volume}:/workspace/model-cache", "--volume", f"{certificate}:/tls:ro",
        "--env", "AIM_TLS_CERT=/tls/cert.pem", "--env", "AIM_TLS_KEY=/tls/key.pem",
    ))  # fmt: skip
    second.until_ready()
    assert docker("exec", second.id, "stat", "-c", "%u", f"/workspace/model-cache/{MODELINFO}").stdout == "54321\n"

    # It could write anywhere, and keeps to what is documented: its state in /tmp, the rest in the volume.
    changed = [line[2:] for line in docker("diff", second.id).stdout.splitlines()]
    assert [path for path in changed if not path.startswith(("/tmp", "/workspace", "/models", "/tls"))] == []

    address = urlsplit(second.url(8000))
    connection = http.client.HTTPSConnection(
        str(address.hostname), address.port, timeout=60, context=trusting(certificate / "cert.pem")
    )
    chunks: list[str] = []
    streaming = threading.Thread(target=stream, args=(connection, chunks))
    streaming.start()
    second.until(lambda: len(chunks) > 5, 30, "the stream has begun")
    at_stop, asked = len(chunks), time.monotonic()
    docker("stop", "--time", "75", second.id)
    streaming.join()
    assert time.monotonic() - asked < 60
    assert at_stop < 1800
    assert chunks[-1] == "[DONE]"
    assert second.inspect(".State.ExitCode") == 0
    assert second.words()["class"] == "Drained"


def stream(connection: http.client.HTTPSConnection, chunks: list[str]) -> None:
    body: dict[str, Any] = {"model": "/models/tiny", "prompt": "Hello", "max_tokens": 1900, "stream": True,
                            "ignore_eos": True}  # fmt: skip
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    while line := answer.readline():
        if line.startswith(b"data: "):
            chunks.append(line[6:].decode().strip())
    connection.close()
