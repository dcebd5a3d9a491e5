"""Two real replicas behind a real nginx, as `render compose --replicas` writes them and docker-compose starts them."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from scripts.serving import free_ports
from tests.image.containers import LABEL, START_SECONDS, docker, trusting
from tests.image.nginx_image import NAME as NGINX
from tests.image.nginx_image import nginx_image
from tests.image.test_compose import compose_program

pytestmark = [pytest.mark.image, pytest.mark.long]

BASE = f"{LABEL}-behind"
KEY = "s3cret-of-the-replicas"
ONE, TWO = f"{BASE}-1", f"{BASE}-2"


@pytest.fixture(scope="module")
def nginx(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    name = nginx_image(base, tmp_path_factory.mktemp("nginx"))
    if name is None:
        pytest.skip("no nginx can be had here: AIM_TEST_NGINX_IMAGE names an image that has one")
    yield name
    docker("rmi", "--force", NGINX, check=False)


class Stack:
    """A rendered file, its ports, and the way to them."""

    def __init__(self, folder: Path, image: str, model: Path, nginx: str, name: str, *more: str) -> None:
        self.file, self.name, cache = folder / "compose.yaml", name, folder / "cache"
        cache.mkdir()
        cache.chmod(0o777)  # in the container not even root has capabilities
        self.port, self.health = free_ports(2)
        self.context: ssl.SSLContext | None = None
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **_docker_s(), "AIM_API_KEY": KEY}
        words = ["render", "compose", str(model), "--hardware", "cpu", "--image", image, "--name", name]
        words += ["--host", "127.0.0.1", "--port", str(self.port), "--health-port", str(self.health)]
        words += ["--cache-dir", str(cache), "--replicas", "2", "--output", str(self.file), *more]
        subprocess.run([Path(sys.executable).with_name("aim-engine"), *words], check=True, env=self.environment)
        self.environment["BALANCER_IMAGE"] = nginx

    def compose(self, *words: str, check: bool = True) -> None:
        program = [*compose_program(), "--project-name", self.name, "--file", str(self.file)]
        done = subprocess.run([*program, *words], env=self.environment, capture_output=True, text=True, timeout=240,
                              check=False)  # fmt: skip
        assert not check or done.returncode == 0, done.stderr

    def ask(self, path: str, body: Any = None, *, key: str = KEY, secure: bool | None = None) -> tuple[int, str]:
        with closing(self.connected(secure)) as connection:
            found = self.send(connection, path, body, key=key)
            return found.status, found.read().decode()

    def connected(self, secure: bool | None = None) -> http.client.HTTPConnection:
        if self.context and secure is not False:
            return http.client.HTTPSConnection("localhost", self.port, timeout=120, context=self.context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    @staticmethod
    def send(connection: http.client.HTTPConnection, path: str, body: Any, *, key: str = KEY) -> Any:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        return connection.getresponse()

    def served_by(self) -> Counter[str]:
        """How many answers each replica has given, by what the balancer logs of its last try."""
        log = docker("logs", f"{self.name}-balancer").stdout
        found = re.findall(r'"POST /v1/\S+ \S+" 200 .* replica=(.*:\d+) [\d, ]+$', log, re.MULTILINE)
        return Counter(one.rpartition(", ")[2] for one in found)


def _docker_s() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in ("DOCKER_HOST", "HOME") if name in os.environ}


QUESTION = {"model": "tiny", "prompt": "Hello", "max_tokens": 4}


def completion(stack: Stack, **more: Any) -> tuple[int, str]:
    return stack.ask("/v1/completions", {**QUESTION, **more})


@pytest.fixture(scope="module")
def starting(image: str, tiny: Path, nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("behind"), image, tiny, nginx, BASE)
    try:
        stack.compose("up", "--detach")
        yield stack
    finally:
        stack.compose("down", "--timeout", "20", check=False)


@pytest.fixture(scope="module")
def stack(starting: Stack) -> Stack:
    for name in (ONE, TWO):
        until_healthy(name)
    return starting


def until_healthy(name: str) -> None:
    deadline = time.monotonic() + 2 * START_SECONDS  # two start at once
    while docker("inspect", "--format", "{{.State.Health.Status}}", name).stdout.strip() != "healthy":
        assert time.monotonic() < deadline, docker("logs", name).stderr[-3000:]
        time.sleep(0.5)


def inspect(name: str, template: str) -> Any:
    return json.loads(docker("inspect", "--format", f"{{{{json {template}}}}}", name).stdout)


def test_before_a_replica_is_ready_the_answer_is_an_error_as_openai_s(starting: Stack) -> None:
    deadline = time.monotonic() + 20
    while (found := _or_silence(starting))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found[0] == 503
    error = json.loads(found[1])["error"]
    assert (error["code"], error["type"]) == (503, "ServiceUnavailableError")


def _or_silence(stack: Stack) -> tuple[int, str]:
    try:
        return stack.ask("/v1/models")
    except OSError:
        return 0, ""


def test_tokens_come_one_by_one(stack: Stack) -> None:
    begun, times = time.monotonic(), []
    with closing(stack.connected()) as connection:
        answer = stack.send(connection, "/v1/completions",
                            {**QUESTION, "max_tokens": 200, "ignore_eos": True, "stream": True})  # fmt: skip
        assert answer.status == 200
        while line := answer.readline():
            if line.startswith(b"data: {"):
                times.append(time.monotonic() - begun)
    assert len(times) >= 150
    assert times[0] < times[-1] / 2
    # spread over the time, not one lump at its end: a busy machine may pause for a tenth of it, or two
    assert len({int(one / times[-1] * 10) for one in times}) >= 5, times[:: len(times) // 10]


def test_both_replicas_serve(stack: Stack) -> None:
    before = stack.served_by()
    assert [completion(stack)[0] for _ in range(40)] == [200] * 40
    served = stack.served_by() - before
    assert sum(served.values()) == 40
    assert len(served) == 2
    assert min(served.values()) >= 4


def test_the_key_is_the_replicas_to_check(stack: Stack) -> None:
    assert stack.ask("/v1/models", key="wrong")[0] == 401
    status, text = stack.ask("/v1/models")
    assert status == 200
    assert json.loads(text)["data"]
    assert KEY not in docker("inspect", f"{BASE}-balancer").stdout + stack.file.read_text()


def test_a_large_body_passes(stack: Stack) -> None:
    assert completion(stack, user="x" * 3_000_000)[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/v1/../metrics", "/load", "/status", "/plan"])
def test_what_is_one_replica_s_own_is_not_to_be_had_here(stack: Stack, path: str) -> None:
    status, text = stack.ask(path)
    assert status == 404
    assert "health port" in json.loads(text)["error"]["message"]


def test_each_replica_s_health_is_still_seen(stack: Stack) -> None:
    words = [str(Path(sys.executable).with_name("aim-engine")), "list", "--json"]
    done = subprocess.run(words, env=stack.environment, capture_output=True, text=True, check=True, timeout=60)
    ours = [one for one in json.loads(done.stdout) if one["replica_group"] == BASE]
    assert [(one["name"], one["replica"], one["health_port"]) for one in ours] == [
        (ONE, 1, stack.health), (TWO, 2, stack.health + 1),
    ]  # fmt: skip
    assert all(one["health"]["ready"] for one in ours)
    assert [one["port"] for one in ours] == [None, None]


def test_it_may_do_nothing_but_serve(stack: Stack) -> None:
    name = f"{BASE}-balancer"
    host = inspect(name, ".HostConfig")
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
    assert inspect(name, ".Config.User") == "101:101"
    until_healthy(name)
    effective = docker("exec", name, "sh", "-c", "grep CapEff /proc/1/status").stdout.split()[1]
    assert int(effective, 16) == 0


def test_one_is_killed_and_comes_back_and_no_request_is_lost(stack: Stack) -> None:
    """Also those that were on their way to it, as long as nothing of an answer was sent on."""
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def go_on_asking() -> None:
        while not over.is_set():
            answers.append(completion(stack, max_tokens=60, ignore_eos=True))
            over.wait(0.2)  # what starts anew needs the machine too

    askers = [threading.Thread(target=go_on_asking) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        time.sleep(2)
        docker("kill", ONE)
        assert len(served_from_now(stack, 6)) == 1
        docker("start", ONE)
        until_healthy(ONE)
        assert len(served_from_now(stack, 20)) == 2
    finally:
        over.set()
        for asker in askers:
            asker.join(120)
    assert len(answers) > 20
    assert Counter(status for status, _ in answers) == {200: len(answers)}, [a for a in answers if a[0] != 200][:3]


def served_from_now(stack: Stack, count: int) -> Counter[str]:
    """Who has given the next so many answers."""
    before, deadline = stack.served_by(), time.monotonic() + 120
    while (served := stack.served_by() - before).total() < count:
        assert time.monotonic() < deadline, served
        time.sleep(0.5)
    return served


def test_tls_ends_at_the_balancer(image: str, tiny: Path, nginx: str, tmp_path: Path) -> None:
    """And it starts where there is no replica at all."""
    name, cert, key = f"{LABEL}-tls", tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)  # fmt: skip
    for file in (cert, key):
        file.chmod(0o644)
    stack = Stack(tmp_path, image, tiny, nginx, name, "--tls-cert", str(cert), "--tls-key", str(key))
    stack.context = trusting(cert)
    try:
        stack.compose("up", "--detach", "balancer")
        deadline = time.monotonic() + 20
        while (found := _or_silence(stack))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (found[0], json.loads(found[1])["error"]["code"]) == (503, 503)
        status, text = stack.ask("/v1/models", secure=False)
        assert (status, json.loads(text)["error"]["message"]) == (400, "this port speaks HTTPS")
    finally:
        stack.compose("down", "--timeout", "5", check=False)
