"""A container's log as it is: which container and how much of it in, pieces of its two streams out.

Docker sends both streams on one connection, each piece behind a header of eight bytes: the stream's number and the
length (docs.docker.com, Engine API, ContainerAttach, "Stream format"); without a header where it has a terminal. The
SDK's own `logs` merges the two.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.docker import guarded
from aim_engine.deploy.endpoints import Endpoint, printable
from aim_engine.errors import DockerError, InputError

if TYPE_CHECKING:
    from docker import DockerClient

_HEADER_BYTES = 8
_PIECE_BYTES = 65536
_CONNECT_SECONDS = 60
_SINCE = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,9})?)(?P<unit>[smhd])", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def stream_log(
    client: DockerClient, endpoint: Endpoint, *, follow: bool, tail: int | None = None, since: float | None = None
) -> Iterator[tuple[int, bytes]]:
    """`(1, ...)` for stdout and `(2, ...)` for stderr, in order; with `follow` until the container ends.

    Raises:
        DockerError: the log cannot be read, or Docker went away.
    """
    from urllib3.exceptions import HTTPError

    asked: dict[str, Any] = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": "all" if tail is None else tail}
    if since is not None:
        asked["since"] = f"{since:.9f}"
    with guarded(f"read the log of {endpoint.name}"):
        inspected = client.api.inspect_container(endpoint.container_id)
        api = client.api
        # the next line may take hours
        answer = api.get(f"{api.base_url}/v{api.api_version}/containers/{endpoint.container_id}/logs", params=asked,
                         stream=True, timeout=(_CONNECT_SECONDS, None))  # fmt: skip
        with answer:
            if answer.status_code != 200:
                raise _unreadable(endpoint, answer)
            try:
                yield from _plain(answer) if inspected["Config"].get("Tty") else _framed(answer)
            except HTTPError as error:  # read below requests, which would have turned it into its own
                raise ConnectionResetError(str(error)) from None


def _plain(answer: Any) -> Iterator[tuple[int, bytes]]:
    for piece in answer.raw.stream(_PIECE_BYTES):
        yield 1, piece


def _framed(answer: Any) -> Iterator[tuple[int, bytes]]:
    while len(header := answer.raw.read(_HEADER_BYTES)) == _HEADER_BYTES:
        stream, left = struct.unpack(">BxxxL", header)
        while left:
            piece = answer.raw.read(min(left, _PIECE_BYTES))
            if not piece:
                return
            left -= len(piece)
            yield 2 if stream == 2 else 1, piece


def _unreadable(endpoint: Endpoint, answer: Any) -> DockerError:
    try:
        said = str(answer.json().get("message"))
    except ValueError:
        said = answer.text
    elsewhere = "its log driver may keep logs elsewhere: docker inspect -f '{{.HostConfig.LogConfig}}' says where"
    return DockerError(
        f"Docker could not read the log of {endpoint.name}: {printable(said)}",
        hint=f"it is in {endpoint.log_file} too" if endpoint.log_file else elsewhere,
    )


def lines_of(pieces: Iterable[tuple[int, bytes]]) -> Iterator[str]:
    """Lines in the order in which they end; a stream's last one may have no end."""
    decoders = {number: codecs.getincrementaldecoder("utf-8")("replace") for number in (1, 2)}
    begun = {1: "", 2: ""}
    for stream, piece in pieces:
        *lines, begun[stream] = (begun[stream] + decoders[stream].decode(piece)).split("\n")
        yield from (line.removesuffix("\r") for line in lines)
    yield from (line for line in begun.values() if line)


def since_typed(text: str, now: datetime | None = None) -> float:
    """`10m`, `2h`, `1d`, a Unix time or a date and time, as a Unix time. A date without a zone is in this host's.

    Raises:
        InputError: it is none of these.
    """
    ago = _SINCE.fullmatch(text)
    if ago:
        return (now or datetime.now(UTC)).timestamp() - float(ago["number"]) * _UNIT_SECONDS[ago["unit"]]
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise InputError(
            f"{printable(text)[:80]!r} is no time", hint="use 30s, 10m, 2h, 1d, or 2026-11-21T10:00:00"
        ) from None
