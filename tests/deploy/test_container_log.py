"""A container's log, its two streams apart, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aim_engine.deploy.container_log import since_typed, stream_log
from aim_engine.deploy.endpoints import endpoint_of
from aim_engine.errors import DockerError, InputError
from tests.deploy.running import FakeDocker

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def test_both_streams_in_order_and_as_they_are(fake_docker: FakeDocker, client: Any) -> None:
    log = ((1, "out\x1b[31m\n"), (2, "error\n"), (1, "x" * 200_000))
    one = endpoint_of(fake_docker.add(log=log))
    found = list(stream_log(client, one, follow=False))
    assert b"".join(piece for stream, piece in found if stream == 1) == b"out\x1b[31m\n" + b"x" * 200_000
    assert [stream for stream, _ in found][:2] == [1, 2]


def test_a_container_with_a_terminal_has_one_stream(fake_docker: FakeDocker, client: Any) -> None:
    container = fake_docker.add(log=((1, "a\n"), (2, "b\n")))
    container["Config"]["Tty"] = True
    found = list(stream_log(client, endpoint_of(container), follow=False))
    assert b"".join(piece for _, piece in found) == b"a\nb\n"
    assert {stream for stream, _ in found} == {1}


def test_how_much_of_it_is_asked_for(fake_docker: FakeDocker, client: Any) -> None:
    one = endpoint_of(fake_docker.add(log=((1, "a\n"), (1, "b\n"))))
    assert list(stream_log(client, one, follow=True, tail=1, since=7.5)) == [(1, b"b\n")]
    asked = fake_docker.asked[-1][1]
    assert "follow=1" in asked
    assert "since=7.500000000" in asked


def test_a_log_that_docker_does_not_have(fake_docker: FakeDocker, client: Any) -> None:
    one = endpoint_of(fake_docker.add())
    answer = fake_docker.answer

    def refuse(method: str, path: str, query: Any, body: bytes) -> tuple[int, str, bytes]:
        if path.endswith("/logs"):
            return 501, "application/json", b'{"message": "configured logging driver does not support reading"}'
        return answer(method, path, query, body)

    fake_docker.answer = refuse  # type: ignore[method-assign]
    with pytest.raises(DockerError, match="does not support reading") as caught:
        list(stream_log(client, one, follow=False))
    assert "LogConfig" in caught.value.hint
    copied = replace(one, log_file="/logs/aim-one.log")
    with pytest.raises(DockerError) as caught:
        list(stream_log(client, copied, follow=False))
    assert "/logs/aim-one.log" in caught.value.hint


def test_a_docker_that_goes_away_in_the_middle(fake_docker: FakeDocker, client: Any) -> None:
    one = endpoint_of(fake_docker.add(log=((1, "x" * 100_000),)))
    fake_docker.cut_bytes = 50_000
    with pytest.raises(DockerError):
        list(stream_log(client, one, follow=False))


@pytest.mark.parametrize(
    ("text", "unix"),
    [("10m", 600), ("1.5h", 5400), ("2d", 172800), ("30s", 30)],
)
def test_times_ago(text: str, unix: float) -> None:
    assert since_typed(text, NOW) == NOW.timestamp() - unix


def test_points_in_time() -> None:
    assert since_typed("1700000000.5") == 1700000000.5
    assert since_typed("2026-11-21T12:00:00+00:00") == NOW.timestamp()


@pytest.mark.parametrize("text", ["", "10x", "-5m", "yesterday", "\x1b[2J", "٣m"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="is no time"):
        since_typed(text)
