"""The real vLLM under boot: it becomes ready, answers, and asks for the key everywhere."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest

from tests.runtime.server import Server

pytestmark = pytest.mark.engine

KEY = "s3cret"


def client(running: Server) -> Any:
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=f"http://127.0.0.1:{running.plan['runtime']['port']}/v1", api_key=KEY)


def ask(running: Server, method: str, path: str, *, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """A request with the path exactly as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", running.plan["runtime"]["port"], timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_models_chat_and_streams(running: Server) -> None:
    with client(running) as openai:
        models = [model.id for model in openai.models.list()]
        chat = openai.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Hello"}], max_tokens=4
        )
        chunks = list(openai.completions.create(model="tiny", prompt="Hello", max_tokens=5, stream=True))
    assert models == ["tiny"]
    assert chat.usage.completion_tokens in range(1, 5)
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")


def test_the_sidecar_tells_of_the_engine(running: Server) -> None:
    running.until(lambda: running.status()["engine"].get("generation_tokens", 0) > 0, 15)
    status = running.status()
    phases = [entry["phase"] for entry in status["timeline"]]
    assert phases == ["planning", "starting", "loading", "probing", "ready"]
    assert {"running", "waiting", "kv_cache_usage"} <= set(status["engine"])
    assert KEY not in json.dumps(status) + running.get("/plan")[1] + running.get("/metrics")[1]
    assert KEY not in running.out + running.err


def test_every_route_asks_for_the_key_but_health(running: Server) -> None:
    with_key = {"Authorization": f"Bearer {KEY}"}
    routes = json.loads(ask(running, "GET", "/openapi.json", headers=with_key)[1])["paths"]
    asked = {(method.upper(), path) for path, methods in routes.items() for method in methods}
    asked |= {("GET", path) for path in ("/metrics", "/docs", "/openapi.json", "/redoc", "/nowhere", "/")}
    assert len(asked) > 20
    answers = {
        (method, path): ask(running, method, path.replace("{", "").replace("}", ""))[0] for method, path in asked
    }
    assert {route for route, status in answers.items() if status != 401} == {("GET", "/health")}


@pytest.mark.parametrize(
    "path",
    ["//health", "/health/", "/health/../v1/models", "/health/..%2fv1/models", "/health%2f..%2fv1/models", "/Health",
     "/health;/v1/models", "/./health", "/metrics/../health", "http://x/health/../metrics"],
)  # fmt: skip
def test_no_spelling_of_health_opens_more(running: Server, path: str) -> None:
    assert ask(running, "GET", path)[0] == 401


def test_health_spelled_with_percent_signs_is_health(running: Server) -> None:
    assert ask(running, "GET", "/%68ealth") == (200, "")


def test_a_browser_s_preflight_passes_and_gives_nothing_away(running: Server) -> None:
    preflight = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST"}
    status, body = ask(running, "OPTIONS", "/metrics", headers=preflight)
    assert status != 401
    assert "vllm:" not in body
    assert ask(running, "OPTIONS", "/metrics", headers={"Access-Control-Request-Method": "POST"})[0] == 401


def test_other_spellings_of_the_key(running: Server) -> None:
    for headers in ({"x-api-key": KEY}, {"authorization": f"bearer {KEY}"}, {"AUTHORIZATION": f"BEARER {KEY}"}):
        assert ask(running, "GET", "/v1/models", headers=headers)[0] == 200
    for headers in ({"x-api-key": KEY + "x"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}):
        assert ask(running, "GET", "/v1/models", headers=headers)[0] == 401


def test_a_websocket_without_the_key_is_refused(running: Server) -> None:
    with socket.create_connection(("127.0.0.1", running.plan["runtime"]["port"]), timeout=10) as connection:
        connection.sendall(
            b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert connection.recv(100).split(b" ")[1] in (b"401", b"403")
