"""Addresses below a hub in, small answers out: what huggingface_hub's own session is told, byte ranges and no more.

That session (proxies, certificates, the redirects that lose the token on their way to another host) is the one that
the engine will download through: httpx in huggingface_hub 1.0 and later, requests before. Knows no file's meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from aim_engine.catalog.hub_failures import Asked, broken_off, from_exception, no_hub, refusal
from aim_engine.errors import AimError, InputError

ENDPOINT = "https://huggingface.co"  # huggingface_hub's own default (constants.py)
_CHUNK = 1 << 20
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")
_TROUBLED = (500, 502, 503, 504)
_TRUE = ("1", "ON", "YES", "TRUE")  # as the hub's client reads a switch


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The bytes that were asked for, or as many as there are, and the size of the whole file, where it was said."""

    body: bytes
    total: int | None


@dataclass(frozen=True, kw_only=True)
class Want:
    """What is asked for: a file by its name ("" for the model itself), all of it up to `most` bytes, or with `end` the
    bytes from `begin` to before that.
    """

    what: str
    begin: int = 0
    end: int | None = None
    most: int = 50_000_000  # of a JSON; the index of a model of 200,000 tensors has 20 MB

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.end is None else {"range": f"bytes={self.begin}-{self.end - 1}"}

    @property
    def most_bytes(self) -> int:
        return self.most if self.end is None else self.end - self.begin


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token, and what gave it."""

    text: str | None
    origin: str

    def __repr__(self) -> str:
        return f"Token(origin={self.origin!r})"


def endpoint_of(environment: Mapping[str, str]) -> str:
    """The hub's address.

    Raises:
        InputError: the user's own cannot be read as one.
    """
    address = (environment.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    try:
        urlsplit(address)
    except ValueError:  # not shown: there may be a password in it
        raise InputError(
            "HF_ENDPOINT is no address of a hub", hint="write it as https://HOST, or leave it out"
        ) from None
    return address


def token_of(asked: str | None, environment: Mapping[str, str]) -> Token:
    """The token that is sent: the one that was given, else the client's own ("hf auth login") unless that is forbidden.
    It may ask the hub: a token from a browser's login is made anew when it is about to expire.
    """
    if asked:
        file = environment.get("HF_TOKEN_FILE")
        return Token(text=asked, origin=f"{file} (HF_TOKEN_FILE)" if file else "HF_TOKEN")
    if environment.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE:
        return Token(text=None, origin="")
    import huggingface_hub
    from huggingface_hub import constants

    found = huggingface_hub.get_token()
    variable = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if environment.get(name)), "")
    return Token(text=found, origin=(variable or str(Path(constants.HF_TOKEN_PATH))) if found else "")


class HubClient:
    """One hub, asked for one model. `get` may be called by many threads."""

    def __init__(self, asked: Asked, token: Token, seconds: float) -> None:
        from huggingface_hub import __version__ as version
        from huggingface_hub.utils import get_session

        self._session: Any = get_session()
        self._seconds = seconds
        self.asked = asked
        # not build_hf_headers: it asks the hub once a day for a list of names to put into its user-agent (2.4)
        self._headers = {"user-agent": f"aim-engine; hf_hub/{version}", "accept-encoding": "identity"}
        if token.text:
            self._headers["authorization"] = f"Bearer {token.text}"
        self._heard_before = False

    def get(self, path: str, want: Want, heard: Callable[[], None]) -> Answer:
        """The content at that path.

        Raises:
            AimError: there is none, or it cannot be had.
        """
        for last in (not self._heard_before, True):  # of hundreds of answers one may well fail: then one more try
            try:
                return self._get(path, want, heard)
            except _TroubledError as trouble:
                if last:
                    raise trouble.error from None
        raise AssertionError

    def _get(self, path: str, want: Want, heard: Callable[[], None]) -> Answer:
        try:
            with self._open(f"{self.asked.endpoint}{path}", self._headers | want.headers) as (answer, chunks):
                self._check(answer.status_code, answer.headers, want.what)
                # a hub that knows no ranges sends the whole file: then it is read from its beginning, and left
                skip = want.begin if answer.status_code == 200 else 0
                body, whole = _read(chunks, skip + want.most_bytes, heard)
                total = _total(answer.status_code, answer.headers)
        except (AimError, _TroubledError):
            raise
        except Exception as error:
            if (said := from_exception(self.asked, error, self._seconds)) is None:
                raise
            raise _TroubledError(said) from None
        self._heard_before = True
        body = body[skip:]
        if want.end is None and not whole:
            raise no_hub(self.asked, f"more than {want.most:,} bytes as {want.what or 'its answer'}")
        if want.end is not None and whole and total is not None and len(body) < min(want.end, total) - want.begin:
            raise _TroubledError(broken_off(self.asked, want.what))
        return Answer(body=body, total=total)

    def _check(self, status: int, headers: Mapping[str, str], what: str) -> None:
        if status not in (200, 206):
            error = refusal(self.asked, status, headers, what)
            raise _TroubledError(error) if status in _TROUBLED else error
        if headers.get("content-type", "").startswith("text/html"):
            raise no_hub(self.asked, "an HTML page")

    @contextmanager
    def _open(self, url: str, headers: Mapping[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
        if callable(getattr(self._session, "stream", None)):  # httpx; of requests it is a switch
            with self._session.stream(
                "GET", url, headers=headers, timeout=self._seconds, follow_redirects=True
            ) as answer:
                yield answer, answer.iter_bytes(_CHUNK)
        else:
            with self._session.get(url, headers=headers, timeout=self._seconds, stream=True) as answer:
                yield answer, answer.iter_content(_CHUNK)


class _TroubledError(Exception):
    """An error that another try may mend."""

    def __init__(self, error: AimError) -> None:
        super().__init__()
        self.error = error


def _read(chunks: Iterator[bytes], most: int, heard: Callable[[], None]) -> tuple[bytes, bool]:
    """At most so many bytes, and whether that was all. A megabyte is a sign of life; a byte a second is none."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(chunk) == _CHUNK:
            heard()
        if len(body) > most:
            return bytes(body[:most]), False
    return bytes(body), True


def _total(status: int, headers: Mapping[str, str]) -> int | None:
    if status == 206:
        found = _TOTAL.fullmatch(headers.get("content-range", ""))
        return int(found[1]) if found else None
    length = headers.get("content-length", "")
    return int(length) if length.isdigit() else None


def quoted(text: str) -> str:
    """A part of a path: a revision's slash is no slash of the path."""
    return quote(text, safe="")
