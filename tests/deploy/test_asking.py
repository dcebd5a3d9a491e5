"""One question over HTTP, to well-behaved and to hostile ports."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aim_engine.deploy.asking import Access, access_to, ask, at_once, cleaned
from aim_engine.errors import InputError
from tests.deploy.running import Answering, endpoint

Start = Callable[[dict[str, Any]], Answering]


def url(server: Answering, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def test_an_answer_and_its_value(answering: Start) -> None:
    server = answering({"/status": {"phase": "ready"}, "/text": "plain"})
    answer = ask(url(server, "/status"), seconds=2)
    assert (answer.status, answer.value) == (200, {"phase": "ready"})
    assert ask(url(server, "/text"), seconds=2).value is None
    assert ask(url(server, "/none"), seconds=2).status == 404


def test_a_body_is_posted_as_json(answering: Start) -> None:
    server = answering({"/echo": lambda body: {"got": body}})
    assert ask(url(server, "/echo"), seconds=2, body={"a": 1}).value == {"got": {"a": 1}}
    assert server.asked[0][0] == "POST"


def test_the_key_is_a_header_and_shown_nowhere(answering: Start) -> None:
    server = answering({"/x": {}})
    access = Access(key="s3cret")
    ask(url(server, "/x"), seconds=2, access=access)
    assert server.asked[0][2]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(access)


def test_no_proxy_and_no_redirect_gets_the_key(answering: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    other = answering({"/": {}})
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{other.port}")
    server = answering({"/x": {}})
    assert ask(url(server, "/x"), seconds=2, access=Access(key="s3cret")).status == 200
    assert other.asked == []


def test_nobody_is_an_answer_with_the_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = ask(f"http://127.0.0.1:{taken.getsockname()[1]}/", seconds=2)
    assert (answer.status, answer.error) == (0, "Connection refused")


def test_one_that_takes_the_connection_and_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = ask(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=0.3)
    assert (answer.status, answer.error) == (0, "it does not answer in time")
    assert answer.seconds < 20


def test_one_that_dribbles_is_given_up(answering: Start) -> None:
    server = answering({"/status": "x" * 1000})
    server.drip_seconds = 0.05
    begun = time.monotonic()
    answers = at_once([url(server, "/status")], lambda one: ask(one, seconds=0.3), seconds=0.6)
    assert time.monotonic() - begun < 20
    assert answers == [None] or (answers[0] is not None and answers[0].status == 0)


def test_an_answer_without_an_end_is_given_up(answering: Start) -> None:
    server = answering({"/status": "x" * 5_000_000})
    answer = ask(url(server, "/status"), seconds=10)
    assert (answer.status, answer.error) == (0, "its answer does not end")


def test_many_are_asked_at_the_same_time() -> None:
    def slowly(one: int) -> int:
        time.sleep(0.2)
        return one

    begun = time.monotonic()
    assert at_once(range(20), slowly, seconds=3) == list(range(20))
    assert time.monotonic() - begun < 3.5


def test_a_bug_in_a_question_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        at_once([1], lambda one: one / 0, seconds=1)


def test_a_stranger_s_value_can_be_printed() -> None:
    assert cleaned({"a\x1b": ["x\x9by", 1, None, True]}) == {"a\ufffd": ["x\ufffdy", 1, None, True]}
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    assert "x" not in str(cleaned(deep))


# --- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two self-signed ones, each for a name that is not the address."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("mine", "other"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                        f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"],
                       check=True, capture_output=True)  # fmt: skip
    return folder


@pytest.fixture
def secure(certificates: Path) -> Any:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that does not trust us has left."""

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "mine.pem", certificates / "mine.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_https_without_a_certificate_is_not_verified_and_says_so(secure: str) -> None:
    assert ask(secure, seconds=5).status == 200
    assert "not verified" in Access().note


def test_https_is_verified_against_the_endpoint_s_own_certificate(secure: str, certificates: Path) -> None:
    right = Access(certificate=str(certificates / "mine.pem"))
    assert ask(secure, seconds=5, access=right).status == 200
    assert right.note == ""
    wrong = ask(secure, seconds=5, access=Access(certificate=str(certificates / "other.pem")))
    assert wrong.status == 0
    assert "certificate" in wrong.error.lower()


def test_the_endpoint_s_certificate_is_used_where_it_can_be_read(certificates: Path) -> None:
    def mounted(path: Path) -> Any:
        return endpoint(
            environment=("AIM_TLS_CERT=/c",), Mounts=[{"Source": str(path), "Destination": "/c"}], ports=(1, 2)
        )

    readable = access_to(mounted(certificates / "mine.pem"), {"VLLM_API_KEY": "k"})
    assert (readable.key, readable.certificate) == ("k", str(certificates / "mine.pem"))
    assert access_to(mounted(certificates / "none.pem"), {}).certificate is None


def test_numbers_that_are_none_to_other_programs(answering: Start) -> None:
    text = '{"a": NaN, "b": -Infinity, "c": 1e999, "d": [1.5, 2], "e": ' + "9" * 400 + "}"
    server = answering({"/status": text})
    found = ask(url(server, "/status"), seconds=2).value
    assert found == {"a": None, "b": None, "c": None, "d": [1.5, 2], "e": None}


@pytest.mark.parametrize("key", ["\u043a\u043b\u044e\u0447", "a\nb", " s3cret"])
def test_a_key_that_cannot_be_a_header_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="AIM_API_KEY") as caught:
        access_to(endpoint(), {"AIM_API_KEY": key})
    assert key not in caught.value.message + caught.value.hint
    assert ask("http://127.0.0.1:1/", seconds=1, access=Access(key=key)).status == 0  # whoever gives it one


def test_a_stranger_s_key_that_cannot_be_a_header_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "key"
    mounts = [{"Type": "bind", "Source": str(file), "Destination": "/run/key"}]
    found = endpoint(environment=("AIM_API_KEY_FILE=/run/key",), Mounts=mounts)
    for text, key in (("\u043a\u043b\u044e\u0447", None), ("theirs", "theirs"), ("", "mine")):
        file.write_text(text)
        assert access_to(found, {"AIM_API_KEY": "mine"}).key == key
