"""What the hub answered, or why nothing came, in; the one `AimError` that says so, with its remedy, out.

Pure: asks nobody. No token is ever part of what it is given, only where the token came from.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aim_engine.errors import AimError, HubUnreachableError, InputError, ModelAccessError

_LOGIN_PAGE = "log in to this network in a browser, or set HF_ENDPOINT and HTTPS_PROXY rightly"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked of whom: `endpoint` is the hub's address, `token_from` what gave the token ("HF_TOKEN", a file's
    path, "" for none).
    """

    model_id: str
    revision: str
    endpoint: str
    token_from: str = ""

    @property
    def place(self) -> str:
        """The hub's address without a name and a password that may stand in it."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def refusal(asked: Asked, status: int, headers: Mapping[str, str], what: str) -> AimError:
    """The error that an answer without the content means; `what` is the file that was asked for, or "" for the model.

    The hub's own words are in X-Error-Code and X-Error-Message (huggingface_hub's utils/_http.py).
    """
    code = headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        return _gated(asked)
    if status == 451 or "disabled" in headers.get("X-Error-Message", "").lower():
        return _withdrawn(asked, status)
    if status == 401 and asked.token_from and code not in ("RepoNotFound", "RevisionNotFound"):
        return ModelAccessError(
            f"the hub does not accept the token from {asked.token_from}: it is mistyped, expired or revoked",
            hint=f"make a new one on {asked.place}/settings/tokens, or take it out: a public model needs none",
        )
    if status == 403:
        return _forbidden(asked)
    return _absent(asked, status, code, what) if status in (401, 404, 416) else _no_answer(asked, status, headers)


def _withdrawn(asked: Asked, status: int) -> AimError:
    why = "the hub does not give it in this region (HTTP 451)" if status == 451 else "the hub has disabled it"
    return ModelAccessError(f"{asked.model_id} cannot be had: {why}",
                            hint="name another model; its page on the hub says why")  # fmt: skip


def _gated(asked: Asked) -> AimError:
    page = f"{asked.place}/{asked.model_id}"
    if not asked.token_from:
        return ModelAccessError(f"{asked.model_id} is gated, and no token is set",
                                hint=f"accept its terms on {page}, then set HF_TOKEN or HF_TOKEN_FILE to a token of "
                                "that account")  # fmt: skip
    return ModelAccessError(
        f"{asked.model_id} is gated, and the token from {asked.token_from} has no access to it",
        hint=f"accept its terms on {page} with that token's account and wait until access is granted; a fine-grained "
        "token must also be allowed to read gated models",
    )


def _forbidden(asked: Asked) -> AimError:
    if asked.token_from:
        return ModelAccessError(
            f"the token from {asked.token_from} may not read {asked.model_id}",
            hint=f"give it the right to read that model on {asked.place}/settings/tokens, or use another",
        )
    return ModelAccessError(f"the hub does not give {asked.model_id} without a token",
                            hint="set HF_TOKEN or HF_TOKEN_FILE")  # fmt: skip


def _absent(asked: Asked, status: int, code: str, what: str) -> AimError:
    model = asked.model_id
    if code == "RevisionNotFound":
        return ModelAccessError(f"{model} has no revision {asked.revision}",
                                hint="set AIM_REVISION to its branch, tag or commit, or leave it out")  # fmt: skip
    if what and (status == 416 or code == "EntryNotFound" or not code):  # 416: not even the first bytes are there
        which = f"{what} of {model} is empty at the hub" if status == 416 else f"{model} has no {what}"
        return ModelAccessError(which, hint="its owner has to mend it; or name another AIM_REVISION")
    private = "it is private and the token has no access" if asked.token_from else "it is private"
    hint = "check the spelling" if asked.token_from else "check the spelling; for a private model set HF_TOKEN"
    return ModelAccessError(f"the hub has no model {model}, or {private}", hint=hint)


def other_kind(asked: Asked, kind: str) -> AimError:
    """The id is that of a data set or a space."""
    return ModelAccessError(f"{asked.model_id} is a {kind} on the hub, not a model", hint="name a model's id")


def _no_answer(asked: Asked, status: int, headers: Mapping[str, str]) -> AimError:
    if status == 429:
        wait = _seconds_to_wait(headers)
        when = f"try again in {wait} s" if wait else "try again in some minutes"
        more = "" if asked.token_from else ", or set HF_TOKEN: who is known may ask more often"
        return HubUnreachableError(f"the hub did not answer for {asked.model_id}: too many requests (HTTP 429)",
                                   hint=when + more)  # fmt: skip
    if status == 407:
        return _unreachable(asked, "the proxy wants a name and a password (HTTP 407)",
                            "write them into HTTPS_PROXY: http://NAME:PASSWORD@HOST:PORT")  # fmt: skip
    return _unreachable(asked, f"HTTP {status}", "try again in some minutes, or check HF_ENDPOINT")


def _seconds_to_wait(headers: Mapping[str, str]) -> int | None:
    """Retry-After, or what is left of the window in the RateLimit header: `"api";r=0;t=171`."""
    found = headers.get("Retry-After", "")
    for part in headers.get("RateLimit", "").split(";"):
        if part.strip().startswith("t=") and not found:
            found = part.strip()[2:]
    return int(found) if found.isascii() and found.isdigit() and len(found) < 7 else None


def no_hub(asked: Asked, what: str) -> AimError:
    """An answer with success that holds no hub's content."""
    return _unreachable(asked, f"what answers at {asked.place} is no hub: it sent {what}", _LOGIN_PAGE)


def broken_off(asked: Asked, what: str) -> AimError:
    return _unreachable(asked, f"the answer broke off in {what}", "try again")


def silent(asked: Asked, seconds: float) -> AimError:
    return _unreachable(asked, f"{asked.place} kept silent for {seconds:g} s",
                        "check the network or HF_ENDPOINT; AIM_HUB_TIMEOUT sets how long it is waited for")  # fmt: skip


# Names of exceptions, of Python, httpx, requests and urllib3 alike: what they mean ({place}, {said}), and the remedy.
# The first that occurs anywhere in the chain of causes is meant.
_SIGNS: tuple[tuple[set[str], str, str], ...] = (
    ({"gaierror", "NameResolutionError"}, "the name of {place} cannot be looked up",
     "check the network, its DNS, and HF_ENDPOINT"),
    ({"ProxyError"}, "the proxy refused ({said})", "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"),
    ({"ConnectionRefusedError"}, "nobody listens at {place}", "check HF_ENDPOINT, a proxy and the network"),
    ({"RemoteProtocolError", "ReadError", "ChunkedEncodingError", "IncompleteRead", "ConnectionResetError"},
     "the answer broke off", "try again"),
    ({"TooManyRedirects"}, "it sends from one address to the next without end", _LOGIN_PAGE),
    ({"OfflineModeIsEnabled"}, "the hub's client has been told to stay offline",
     "leave HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE out"),
    ({"OSError", "HTTPError", "RequestException"}, "{said}", "check the network or HF_ENDPOINT"),
)  # fmt: skip
_NO_ADDRESS = {"UnsupportedProtocol", "InvalidURL", "MissingSchema", "InvalidSchema", "LocalProtocolError"}
_LATE = {"TimeoutError", "TimeoutException", "Timeout"}
_NOT_LATE = {"NewConnectionError", "NameResolutionError", "ProxyError"}  # kinds of a late one to urllib3, and are none


def from_exception(asked: Asked, error: Exception, seconds: float) -> AimError | None:
    """The error that an exception of the hub's client means; None where it is none of the network's."""
    chain = list(_chain(error))
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    if "SSLError" in names:
        return _tls(asked, chain)
    if names & _NO_ADDRESS:
        return InputError(f"HF_ENDPOINT is no address of a hub: {asked.place[:80]}",
                          hint="write it as https://HOST, or leave it out")  # fmt: skip
    if names & _LATE and not names & _NOT_LATE:
        return silent(asked, seconds)
    for signs, why, remedy in _SIGNS:
        if names & signs:
            return _unreachable(asked, why.format(place=asked.place, said=str(error)[:100]), remedy)
    return None


def _tls(asked: Asked, chain: list[BaseException]) -> AimError:
    said = [one.verify_message for one in chain if isinstance(one, ssl.SSLCertVerificationError)]
    if not said:
        return _unreachable(asked, f"no TLS with {asked.place}", "check HF_ENDPOINT: it may speak http, not https")
    return _unreachable(
        asked,
        f"the certificate of {asked.place} is not trusted ({said[0]})",
        "where a company's proxy signs certificates, set SSL_CERT_FILE (and REQUESTS_CA_BUNDLE, which older clients "
        "of the hub read) to a file with its CA",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        yield from (one for one in (*error.args, getattr(error, "reason", None)) if isinstance(one, BaseException))
        error = error.__cause__ or error.__context__


def _unreachable(asked: Asked, why: str, remedy: str) -> HubUnreachableError:
    return HubUnreachableError(
        f"the hub did not answer for {asked.model_id}: {why}",
        hint=f"{remedy}; or serve a model folder, or set AIM_CACHE_DIR to a cache that was filled where there is a "
        f"network: HF_HOME=FOLDER hf download {asked.model_id}",
    )
