"""A hub that cannot be asked, as a user meets it: the whole command, the hub's real client, and what stands between."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Run
from tests.fakes.hub import COMMIT, Hub, Model, hub_here

pytest.importorskip("huggingface_hub")

Plan = Callable[..., Done]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_here(good=Model(), silent=Model(fault="silent")) as found:
        yield found


@pytest.fixture
def plan(process: Run, tmp_path: Path) -> Plan:
    def run(*words: str, model: str = "org/good", **environment: str) -> Done:
        return process("plan", model, "--hardware", "cpu", "--json", *words, HOME=str(tmp_path), **environment)

    return run


@contextmanager
def listener(answer: bytes = b"") -> Iterator[tuple[int, list[bytes]]]:
    """A port, and what was said there; each caller gets the same answer, or none."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    heard.append(peer.recv(4096))
                    peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "switch", [{"AIM_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "yes"}, {"TRANSFORMERS_OFFLINE": "1"}]
)
def test_offline_never_connects(plan: Plan, process: Run, tmp_path: Path, switch: dict[str, str]) -> None:
    with listener(b"HTTP/1.1 500 no\r\n\r\n") as (port, heard):
        addresses = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HTTP_PROXY": f"http://127.0.0.1:{port}"}
        done = plan(**addresses, **switch)
        assert done.code == 0, done.stderr
        assert next(iter(switch)) in done.json["warnings"][-1]
        doctor = process("doctor", "org/good", "--hardware", "cpu", HOME=str(tmp_path), **addresses, **switch)
        assert doctor.stdout
        assert heard == []
        assert plan(**addresses).code == 41  # that it would have been seen
        assert heard


def failed(done: Done, code: int, *words: str) -> None:
    assert (done.code, done.last_words["code"]) == (code, code)
    for word in words:
        assert word in f"{done.last_words['message']} {done.last_words['hint']}"


def test_what_stands_between(plan: Plan) -> None:
    failed(
        plan(HF_ENDPOINT="http://no-such-host.invalid"), 41, "http://no-such-host.invalid cannot be looked up", "DNS"
    )
    failed(plan(HF_ENDPOINT="http://u:hunter2@127.0.0.1:9"), 41, "nobody listens at http://127.0.0.1:9")
    failed(plan(HF_ENDPOINT="no address"), 10, "HF_ENDPOINT is no address of a hub")
    with listener(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as (port, _):
        done = plan(HF_ENDPOINT="https://hub.invalid", HTTPS_PROXY=f"http://me:hunter2@127.0.0.1:{port}")
        failed(done, 41, "the proxy refused", "403 Forbidden", "HTTPS_PROXY")
        assert "hunter2" not in done.stdout + done.stderr
    with listener(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, _):
        failed(plan(HF_ENDPOINT=f"https://127.0.0.1:{port}"), 41, "no TLS with https://127.0.0.1")


def certificate(folder: Path) -> Path:
    """A certificate of nobody's for 127.0.0.1, with its key."""
    path = folder / "own.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(path), "-out", str(folder / "c"),
            "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "c").read_text())
    return path


def test_a_certificate_of_a_company(plan: Plan, tmp_path: Path) -> None:
    own = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    with hub_here(tls=context, good=Model()) as hub:
        done = plan(HF_ENDPOINT=hub.address, HF_TOKEN="hf_hunter2")
        failed(done, 41, "is not trusted", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        assert hub.seen == []  # no token to whom is not trusted
        trusted = plan(HF_ENDPOINT=hub.address, SSL_CERT_FILE=str(own))
        assert trusted.code == 0, trusted.stderr


def test_silence_ends_after_the_time_that_was_set(plan: Plan, hub: Hub) -> None:
    began = time.monotonic()
    failed(plan("--hub-timeout", "1", model="org/silent", HF_ENDPOINT=hub.address), 41, "kept silent for 1 s")
    assert time.monotonic() - began < 5


def test_an_interrupt_ends_at_once(hub: Hub, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_ENDPOINT": hub.address}
    argv = [sys.executable, "-m", "aim_engine.cli.main", "plan", "org/silent", "--hardware", "cpu"]
    with subprocess.Popen(argv, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not hub.seen:
            time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert time.monotonic() - began < 15


def test_what_was_planned_is_what_is_served(plan: Plan, hub: Hub) -> None:
    hub.models["org/good"] = Model(commits={"main": COMMIT, "v1": "b" * 40})
    done = plan("--revision", "v1", HF_ENDPOINT=hub.address).json
    argv = done["command"]["argv"]
    assert (done["revision"], argv[argv.index("--revision") + 1]) == ("b" * 40, "b" * 40)
    assert plan(HF_ENDPOINT=hub.address).json["revision"] == COMMIT
    failed(plan("--revision", "v9", HF_ENDPOINT=hub.address), 40, "org/good has no revision v9", "AIM_REVISION")
    elsewhere = plan("--engine-args", '{"tokenizer": "org/other"}', HF_ENDPOINT=hub.address).json["command"]["argv"]
    assert elsewhere[elsewhere.index("--tokenizer-revision") + 1] == "main"


def test_a_folder_has_no_revision(plan: Plan, tmp_path: Path) -> None:
    failed(plan("--revision", "v1", model=str(tmp_path)), 10, "AIM_REVISION=v1 is for a hub's model")


def test_code_of_its_own_is_a_warning_until_it_is_trusted(plan: Plan, hub: Hub) -> None:
    from tests.catalog.test_hub_reader import of

    hub.models["org/good"] = Model(files=of({}, auto_map={"AutoConfig": "x.Y"}))
    (warning,) = plan(HF_ENDPOINT=hub.address).json["warnings"]
    assert "trust-remote-code" in warning
    trusted = plan("--engine-args", '{"trust-remote-code": true}', HF_ENDPOINT=hub.address).json
    assert trusted["warnings"] == []
    assert "--trust-remote-code" in trusted["command"]["argv"]


def test_a_model_that_has_a_card_asks_nobody(process: Run, tmp_path: Path) -> None:
    with listener() as (port, heard):
        address = f"http://127.0.0.1:{port}"
        done = process("plan", "Qwen/Qwen3-32B", "--hardware", "MI300X:8", HF_ENDPOINT=address, HOME=str(tmp_path))
        assert done.code == 0, done.stderr
        assert heard == []
