"""One HTTP question to an endpoint: a URL in, an `Answer` out within a time limit, whatever the other side does.

Knows no route. A key is sent as a header and shown nowhere.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from aim_engine.deploy.endpoints import Endpoint, printable
from aim_engine.errors import InputError
from aim_engine.values import RefusedError, secret_text

if TYPE_CHECKING:
    import requests

_LARGEST_ANSWER = 4_000_000
_LONGEST_WORDS = 4000
_DEEPEST = 8
_LONGEST_NUMBER = 18  # digits: what 64 bits hold, and a float can be made of
_KEYS = ("AIM_API_KEY", "VLLM_API_KEY")

One = TypeVar("One")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Access:
    """What an endpoint may ask of who asks: the API's key, and the certificate (PEM) that it must show. Without a
    certificate an HTTPS endpoint is believed to be who it says.
    """

    key: str | None = field(default=None, repr=False)
    certificate: str | None = None

    @property
    def note(self) -> str:
        """What to tell about an HTTPS endpoint that is asked so."""
        return "" if self.certificate else "its certificate was not verified: none was given to verify it against"


def access_to(endpoint: Endpoint, environment: Mapping[str, str]) -> Access:
    """The endpoint's own key and certificate where their files can be read here, else the environment's key.

    Raises:
        InputError: the environment's key cannot be sent.
    """
    key = _first_line(endpoint.key_file)
    if key is None:
        key = own_key(environment)
    elif not _can_be_sent(key):  # a file that somebody else wrote
        key = None
    readable = endpoint.certificate is not None and os.access(endpoint.certificate, os.R_OK)
    return Access(key=key, certificate=endpoint.certificate if readable else None)


def own_key(environment: Mapping[str, str]) -> str | None:
    """The environment's key.

    Raises:
        InputError: it cannot be sent in a header.
    """
    name = next((name for name in _KEYS if environment.get(name)), None)
    if name is None:
        return None
    try:
        return secret_text(environment[name])
    except RefusedError as refusal:
        raise InputError(f"{name}: its value is not legal", hint=f"{refusal}") from None


def _can_be_sent(key: str) -> bool:
    try:
        secret_text(key)
    except RefusedError:
        return False
    return True


def _first_line(path: str | None) -> str | None:
    """None where there is no such file, or it is not ours to read."""
    try:
        with open(path or "", encoding="utf-8") as file:  # noqa: PTH123 - says "no such file" for an empty name
            return file.readline(_LONGEST_WORDS).strip() or None
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`status` 0 means none, and `error` then why not. `seconds` is the time it took."""

    status: int
    text: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def value(self) -> Any:
        """The answer as JSON, without anything that a terminal would obey; None where it is none, and in place of a
        number that no program could pass on (Python reads NaN, Infinity, 1e999 and a thousand digits).
        """
        try:
            return cleaned(json.loads(self.text, parse_float=_number, parse_int=_whole, parse_constant=_number))
        except (ValueError, RecursionError):
            return None


def ask(url: str, *, seconds: float, access: Access | None = None, body: Mapping[str, Any] | None = None) -> Answer:
    """GET, or POST where there is a body. At most `seconds` altogether: the other side may dribble."""
    import requests

    access = access or Access()
    begun = time.monotonic()
    headers = {"Authorization": f"Bearer {access.key}"} if access.key else {}
    try:
        with _session(access, url) as session:
            # no redirects: the key is meant for this address only
            answer = session.request("GET" if body is None else "POST", url, json=body, headers=headers,
                                     timeout=seconds, stream=True, allow_redirects=False)  # fmt: skip
            text = _text(answer, begun + seconds)
            return Answer(status=answer.status_code, text=text, seconds=time.monotonic() - begun)
    except (requests.RequestException, OSError, UnicodeError) as error:
        return Answer(status=0, error=_why_not(error), seconds=time.monotonic() - begun)


def _text(answer: requests.Response, deadline: float) -> str:
    import requests

    data = b""
    for chunk in answer.iter_content(65536):
        data += chunk
        if time.monotonic() > deadline or len(data) > _LARGEST_ANSWER:
            raise requests.Timeout("its answer does not end")
    return data.decode("utf-8", "replace")


def _session(access: Access, url: str) -> requests.Session:
    import requests

    session = requests.Session()
    # what is asked is on this host or its networks: no proxy on the way, and nobody's .netrc
    session.trust_env = False
    if url.startswith("https://"):
        session.verify = access.certificate or False
        session.mount("https://", _tls_adapter())
    return session


def _tls_adapter() -> requests.adapters.HTTPAdapter:
    import ssl

    import requests
    import urllib3

    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # `Access.note` says so, once
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody yet
    # it is asked by a number, under whatever name its certificate was made for
    context.check_hostname = False
    # the endpoint's own certificate may be what is trusted, not only its maker's
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, ssl_context=context, assert_hostname=False, **options)

    return Adapter()


def _why_not(error: Exception) -> str:
    """Requests' own words repeat the address and its objects; the innermost reason is what helps."""
    reason: BaseException = error
    while inner := reason.__cause__ or reason.__context__ or getattr(reason, "reason", None):
        if not isinstance(inner, BaseException):
            break
        reason = inner
    words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return printable("it does not answer in time" if "timed out" in words.lower() else words)


def _number(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= _LONGEST_NUMBER else None


def cleaned(value: Any, depth: int = 0) -> Any:
    """A stranger's JSON value whose texts can be printed."""
    if depth > _DEEPEST:
        return None
    if isinstance(value, str):
        return printable(value, longest=_LONGEST_WORDS)
    if isinstance(value, Mapping):
        return {printable(key): cleaned(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [cleaned(one, depth + 1) for one in value]
    return value


def at_once(asked: Iterable[One], ask_one: Callable[[One], Result], *, seconds: float) -> list[Result | None]:
    """Ask all of them at the same time; None for one that has not answered in time, and is no longer waited for."""
    wanted = list(asked)
    results: list[Result | None] = [None] * len(wanted)
    failures: list[BaseException] = []

    def work(index: int, one: One) -> None:
        try:
            results[index] = ask_one(one)
        except BaseException as error:
            failures.append(error)

    # daemons: a thread that is stuck does not keep the command from ending
    threads = [threading.Thread(target=work, args=each, daemon=True) for each in enumerate(wanted)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if failures:
        raise failures[0]
    return list(results)
