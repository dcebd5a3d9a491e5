"""poller.py: what is seen of a server that answers, one that does not, and one that takes connections only."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.front_end import Teller, Told
from aim_engine.runtime.guard import Guard
from aim_engine.runtime.poller import Answer, Poller, ask, error_text
from aim_engine.runtime.processes import Identity, identify
from aim_engine.runtime.state import State

from .server import fake_plan


class Quiet(BaseHTTPRequestHandler):
    """Answers everything with the headers it was sent."""

    def do_GET(self) -> None:
        body = json.dumps({"authorization": self.headers.get("Authorization"), "server_load": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        if certificate is not None:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def of_this_process(folder: Path, port: int, **runtime: Any) -> tuple[Poller, Identity]:
    """A poller that takes this process for the server, and asks at `port`; and who this is."""
    plan = fake_plan(folder, **runtime)
    urls = plan["command"]["urls"]
    urls.update({name: f"http://127.0.0.1:{port}/{name}" for name in urls})
    state, me = State(str(folder)), identify(os.getpid())
    assert me is not None
    state.write_text("server.pid", f"{me.pid} {me.start_ticks}")
    return Poller(state=state, contract=read_contract(plan), key=None), me


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    file = tmp_path / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", file, "-out", tmp_path / "cert.pem",
         "-days", "2", "-subj", "/CN=somewhere else"],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_bytes(file.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return file


def test_an_answer_with_and_without_tls(certificate: Path) -> None:
    with serving() as port:
        plain = ask(f"http://127.0.0.1:{port}/health", key="s3cret", seconds=5)
    with serving(certificate) as port:
        secure = ask(f"https://127.0.0.1:{port}/probe", key="s3cret", seconds=5, body={"a": 1})
    assert [answer.status for answer in (plain, secure)] == [200, 200]
    assert [json.loads(answer.body)["authorization"] for answer in (plain, secure)] == ["Bearer s3cret"] * 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_taken_and_gets_no_answer_is_silence(scheme: str) -> None:
    """As of a server that was frozen: the kernel takes the connection, and not even the TLS handshake is answered."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        answer = ask(f"{scheme}://127.0.0.1:{frozen.getsockname()[1]}/health", key=None, seconds=0.2)
    assert answer == Answer(status=0, silent=True)


def test_a_frozen_server_with_a_full_queue_is_silent_too() -> None:
    """The kernel then drops what would make another connection; a port that nobody listens on refuses it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as frozen:
        port = frozen.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        full = ask(f"http://127.0.0.1:{port}/health", key=None, seconds=0.2)
        for one in waiting:
            one.close()
    assert full == Answer(status=0, silent=True)
    assert ask(f"http://127.0.0.1:{port}/health", key=None, seconds=0.2) == Answer(status=0, silent=False)


@pytest.mark.parametrize("key", ["schlüssel", "schlüssel🔑", "a\nb"])
def test_no_key_makes_it_raise(key: str) -> None:
    with serving() as port:
        ask(f"http://127.0.0.1:{port}/health", key=key, seconds=5)


def test_the_key_is_sent_as_the_guard_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIM_API_KEY", "schlüssel")

    async def app(*_: object) -> None: ...

    with serving() as port:
        sent = json.loads(ask(f"http://127.0.0.1:{port}/", key="schlüssel", seconds=5).body)["authorization"]
    assert sent.encode("latin-1") == b"Bearer " + (Guard(app)._key or b"")


@pytest.mark.parametrize("body", ["[" * 100_000, '{"error": {"message": null}}', '{"error": {"message": {"a": 1}}}'])
def test_no_answer_of_the_engine_makes_it_raise(body: str) -> None:
    assert error_text(Answer(status=500, body=body)).startswith("the engine answered 500: ")


def test_our_own_probe_is_not_counted_as_work(tmp_path: Path) -> None:
    """vLLM counts a request down a moment after it was answered; a server that freezes then has nothing to do."""
    with serving() as port:
        poller, _ = of_this_process(tmp_path, port, hang_timeout_seconds=2.0)
        while (seen := poller.look()).probe != "":
            time.sleep(0.005)
        assert seen.load is None
        assert poller.look().load is None
        time.sleep(0.55)  # a quarter of the hang timeout
        assert poller.look().load == 1


def test_a_sidecar_that_was_started_again_knows_that_the_server_was_ready(tmp_path: Path) -> None:
    """It may be frozen by now, so that a probe would never end, and nothing would ever be called hung."""
    with serving() as port:
        poller, me = of_this_process(tmp_path, port)
        state = poller.state
        state.write("ready.json", {"pid": me.pid, "start": me.start_ticks, "monotonic": 1.0})
        seen = poller.look()
        assert (seen.probe, seen.load) == ("", 1)
        assert poller._prober is None


def test_each_front_end_of_a_server_that_is_ready_has_a_beat(tmp_path: Path) -> None:
    """One that is dead has none; before the server is ready nobody is asked for any."""
    with serving() as port:
        poller, me = of_this_process(tmp_path, port)
        state = poller.state
        Teller(state.path("tmp")).tell(Told())
        dead = Path(state.path("tmp"), f"front-end-{2**22 + 1}.json")
        dead.write_bytes(Path(state.path("tmp"), f"front-end-{me.pid}.json").read_bytes())
        assert poller.look().beats == {}
        while poller.look().probe != "":
            time.sleep(0.005)
        beats = poller.look().beats
        os.utime(state.path(f"tmp/front-end-{me.pid}.json"), (1, 1))
        later = poller.look().beats
    assert [*beats] == [*later] == [me.pid]
    assert beats != later


def test_such_a_server_that_is_silent_by_now_was_ready_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.runtime.poller._HEALTH_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        plan = fake_plan(tmp_path)
        plan["command"]["urls"]["health"] = f"http://127.0.0.1:{frozen.getsockname()[1]}/health"
        state = State(str(tmp_path))
        me = identify(os.getpid())
        assert me is not None
        state.write_text("server.pid", f"{me.pid} {me.start_ticks}")
        state.write("ready.json", {"pid": me.pid, "start": me.start_ticks, "monotonic": 1.0})
        seen = Poller(state=state, contract=read_contract(plan), key=None).look()
        assert (seen.probe, seen.silent, seen.healthy) == ("", True, None)
