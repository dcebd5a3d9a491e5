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
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from aim_engine.deploy.alerts import ALERTS
from aim_engine.deploy.dashboard import dashboard
from aim_engine.deploy.kubernetes.monitoring import monitored
from aim_engine.deploy.kubernetes.scaling import autoscaled_by_keda
from aim_engine.deploy.yaml_text import without_notes
from tests.deploy.kubernetes.specs import spec
from tests.deploy.promql import filled_in, names_in
from tests.faults.fault import assert_ended
from tests.faults.table import fault as row
from tests.image.conftest import KEY, Start, serving
from tests.image.containers import Container, docker, trusting
from tests.image.prometheus import PROMETHEUS, Prometheus, scrape_configs

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


def test_it_answers_with_log_probabilities(client: openai.OpenAI) -> None:
    """vLLM compiles a function for the first such request, and an engine without a compiler died of it."""
    answer = client.completions.create(model="/models/tiny", prompt="Who are you?", max_tokens=4, logprobs=3)
    assert answer.choices[0].logprobs
    assert len(answer.choices[0].logprobs.token_logprobs or []) == 4


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


def asked_all_the_time(client: openai.OpenAI, enough: threading.Event) -> list[threading.Thread]:
    def ask() -> None:
        while not enough.is_set():
            with suppress(openai.OpenAIError):  # too slow an answer, on a machine with other work
                client.completions.create(model="/models/tiny", prompt="Who are you? " * 5, max_tokens=6)

    askers = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for one in askers:
        one.start()
    return askers


@pytest.mark.skipif(not PROMETHEUS, reason="prometheus is not installed (Debian: apt-get install prometheus)")
def test_a_prometheus_has_data_for_every_query_of_the_dashboard(
    ready: Container, client: openai.OpenAI, tmp_path: Path
) -> None:
    """Scraped as the PodMonitors say, with the key where they say so; what autoscaling asks is answered too."""
    cluster = spec({"AIM_API_KEY": KEY}, name="tiny", namespace="models")
    pieces = [without_notes(one) for one in (*monitored(cluster).objects, *autoscaled_by_keda(cluster).objects)]
    (tmp_path / "key").write_text(KEY)
    addresses = {"health": urlsplit(ready.url(8080)).netloc, "api": urlsplit(ready.url(8000)).netloc}
    configs = [
        config
        for one in pieces
        if one["kind"] == "PodMonitor"
        for config in scrape_configs(one, addresses, {"AIM_API_KEY": tmp_path / "key"})
    ]
    found = {one["kind"]: one["spec"] for one in pieces if "spec" in one}
    asked = [filled_in(target["expr"], "15s") for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    asked += [one["metadata"]["query"] for one in found["ScaledObject"]["triggers"]]
    enough = threading.Event()
    askers = asked_all_the_time(client, enough)
    try:
        with Prometheus(tmp_path, configs, found["PrometheusRule"]) as prometheus:
            waiting = list(asked)

            def answered() -> bool:
                waiting[:] = [one for one in waiting if not prometheus.ask(one)]
                return not waiting

            prometheus.until(answered, 60, lambda: f"no data for {waiting}")
            served = set(prometheus.get("label/__name__/values"))
            alerts: dict[str, tuple[str, str]] = {}

            def judged() -> bool:  # they are, twice a minute, from some moment of their own on
                (group,) = prometheus.get("rules")["groups"]
                alerts.update({rule["name"]: (rule["health"], rule["state"]) for rule in group["rules"]})
                return all(health != "unknown" for health, _ in alerts.values())

            prometheus.until(judged, 60, lambda: f"the rules are not evaluated: {alerts}")
            targets = prometheus.get("targets")["activeTargets"]
    finally:
        enough.set()
        for one in askers:
            one.join()
    assert [target["health"] for target in targets] == ["up", "up"]
    assert alerts == dict.fromkeys((alert.name for alert in ALERTS), ("ok", "inactive"))
    named = set().union(*(names_in(one) for one in [*asked, *(alert.expression for alert in ALERTS)]))
    assert named <= served


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
    assert time.monotonic() - asked < 60, second.logs()[-3000:]
    assert at_stop < 1800
    assert chunks[-1] == "[DONE]"
    assert_ended(row("docker-stop-streaming"), second.inspect(".State.ExitCode"), second.words())


def stream(
    connection: http.client.HTTPConnection, chunks: list[str], model: str = "/models/tiny", tokens: int = 1900
) -> None:
    body: dict[str, Any] = {"model": model, "prompt": "Hello", "max_tokens": tokens, "stream": True,
                            "ignore_eos": True}  # fmt: skip
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    while line := answer.readline():
        if line.startswith(b"data: "):
            chunks.append(line[6:].decode().strip())
    connection.close()
