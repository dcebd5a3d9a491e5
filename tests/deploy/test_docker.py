"""The way to a Docker Engine: what cannot be reached, and what the engine refuses, as errors with a remedy."""

from __future__ import annotations

import gc
import hashlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from docker.errors import APIError, DockerException

from aim_engine.deploy.docker import connect, guarded, in_one_piece
from aim_engine.errors import AimError, CacheError, DockerError, InputError
from tests.deploy.running import FakeDocker


@pytest.fixture
def sdk_leaks() -> Iterator[None]:
    """The SDK does not close a socket that could not be connected; the warning comes when it is collected."""
    yield
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("sdk_leaks")
@pytest.mark.parametrize(
    ("host", "sentence", "hint"),
    [
        ("unix:///nowhere/docker.sock", r"its socket does not exist: /nowhere/docker\.sock$", "systemctl start docker"),
        ("tcp://127.0.0.1:1", "no Docker Engine answers", "DOCKER_HOST"),
        ("nonsense://x", "DOCKER_HOST is no address", "unix://"),
        ("tcp://[::", "is no address", "tcp://host:port"),
        ("tcp://127.0.0.1:99999", "is no address", "tcp://host:port"),
    ],
)
def test_no_engine(host: str, sentence: str, hint: str) -> None:
    with pytest.raises(DockerError, match=sentence) as caught:
        connect({"DOCKER_HOST": host})
    assert hint in caught.value.hint
    assert caught.value.code == 60


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("sdk_leaks")
def test_a_socket_nobody_listens_at(tmp_path: Path) -> None:
    code = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    path = tmp_path / "s"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, path], check=True)
    with pytest.raises(DockerError, match=f"nobody listens: {path}$"):
        connect({"DOCKER_HOST": f"unix://{path}"})


def test_the_socket_of_the_current_context_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(b"mine").hexdigest()
    (tmp_path / "contexts" / "meta" / digest).mkdir(parents=True)
    told = {"Name": "mine", "Metadata": {}, "Endpoints": {"docker": {"Host": "unix:///nowhere/mine.sock"}}}
    (tmp_path / "contexts" / "meta" / digest / "meta.json").write_text(json.dumps(told))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DockerError, match=r"its socket does not exist: /nowhere/mine\.sock$"):
        connect({"DOCKER_CONTEXT": "mine"})


def test_certificates_that_are_not_there() -> None:
    with pytest.raises(DockerError, match="TLS") as caught:
        connect({"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"})
    assert "DOCKER_CERT_PATH" in caught.value.hint


@pytest.mark.parametrize(("text", "kind"), [("[1]", InputError), ('{"HttpHeaders": 5}', DockerError)])
def test_settings_of_docker_s_that_are_none(
    text: str, kind: type[AimError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(text)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(kind, match="settings") as caught:
        connect({"DOCKER_HOST": "tcp://127.0.0.1:1"})
    assert "config.json" in caught.value.message + caught.value.hint
    assert "DOCKER_CONFIG" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DockerException("('Connection aborted.', PermissionError(13, 'Permission denied'))"), "may not use Docker"),
        (DockerException("Error: client version 1.99 is too new. not supported by this client"), "too old"),
        (requests.ConnectionError("('Connection aborted.', RemoteDisconnected('closed without'))"), "went away"),
        (requests.ReadTimeout("UnixHTTPConnectionPool: Read timed out. (read timeout=60)"), "does not answer"),
        (OSError(5, "Input/output error"), "could not be asked"),
    ],
)
def test_a_connection_that_fails(error: Exception, sentence: str) -> None:
    with pytest.raises(DockerError, match=sentence) as caught, guarded("be asked"):
        raise error
    assert caught.value.hint


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        ("write /var/lib/docker/x: no space left on device", CacheError, "docker system df"),
        ("Bind for 0.0.0.0:8000 failed: port is already allocated", InputError, "--port"),
        ("listen tcp4 0.0.0.0:8000: bind: address already in use", InputError, "--port"),
        ('Conflict. The container name "/a" is already in use by container "b"', InputError, "--name"),
        ("error gathering device information while adding custom device", DockerError, "/dev/kfd"),
        ('could not select device driver "cdi" with capabilities: []', DockerError, "--device-mode"),
        ("something new", DockerError, "journalctl"),
    ],
)
def test_what_the_engine_refuses(said: str, kind: type[AimError], hint: str) -> None:
    with pytest.raises(AimError, match="Docker could not start it") as caught, guarded("start it"):
        raise APIError("500", response=SimpleNamespace(status_code=500), explanation=said)
    assert type(caught.value) is kind
    assert hint in caught.value.hint
    assert said in caught.value.message


def test_our_own_errors_pass() -> None:
    with pytest.raises(InputError, match="mine"), guarded("do it"):
        raise InputError("mine")


HERE: Any = SimpleNamespace(api=SimpleNamespace(base_url="", get=lambda *_, **__: None))  # an engine that lives


def test_a_call_in_one_piece_gives_its_answer_or_its_error() -> None:
    assert in_one_piece(HERE, lambda: 7) == 7
    with pytest.raises(InputError, match="no"):
        in_one_piece(HERE, lambda: (_ for _ in ()).throw(InputError("no")))


@pytest.mark.parametrize("pause", [0.0, 0.1])  # while the call begins, and while it is waited for
def test_an_interrupt_waits_for_the_end_of_a_call(pause: float) -> None:
    begun, done = list[str](), list[str]()

    def call() -> None:
        time.sleep(pause)
        begun.append("asked")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.2)
        done.append("made")

    with pytest.raises(KeyboardInterrupt):
        in_one_piece(HERE, call)
    assert (begun, done) == (["asked"], ["made"])


@pytest.fixture
def silent() -> Iterator[str]:
    """Whoever takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_engine_is_given_up_soon(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.deploy.docker._LOOK_SECONDS", 0.5)
    begun = time.monotonic()
    with pytest.raises(DockerError, match="does not answer"):
        connect({"DOCKER_HOST": silent})
    assert 0.4 < time.monotonic() - begun < 10  # once, and not again and again


def test_one_that_falls_silent_is_asked_but_a_short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.deploy.docker._LOOK_SECONDS", 0.5)
    monkeypatch.setattr("aim_engine.deploy.docker._PING_SECONDS", 0.2)
    server, over = FakeDocker(), threading.Event()
    client = connect({"DOCKER_HOST": server.host})
    server.answer = lambda *_: (over.wait(20), (200, "text/plain", b""))[1]  # type: ignore[method-assign]
    begun = time.monotonic()
    with pytest.raises(DockerError, match="does not answer"), guarded("list"):
        client.api.containers()
    threading.Timer(0.1, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        in_one_piece(client, lambda: client.api.remove_container("x"))
    with pytest.raises(DockerError, match="does not answer"), guarded("remove it"):  # and what is taken back after it
        client.api.remove_container("x")
    assert time.monotonic() - begun < 15
    over.set()
    client.close()
    server.close()
