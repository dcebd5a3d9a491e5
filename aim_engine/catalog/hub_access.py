"""Whether a checkpoint can be had, before an engine tries for minutes: what is cached and what the network says in;
nothing, or the reason to serve without the network, out; or the error that the start would end in.

Sends the hub one request without any secret, and only where it matters.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from aim_engine.catalog.hub_cache import commit_of, fetch_command, home_of, what_is_missing
from aim_engine.errors import HubUnreachableError, ModelAccessError

_HUB = "https://huggingface.co"  # huggingface_hub's own default (constants.py)
# A cached copy can be served without the hub, so it is not waited for long; without one a slow proxy has its time.
_SECONDS_WITH_A_COPY, _SECONDS_WITHOUT = 2.0, 10.0
_OVERLOADED = 429


def why_offline(
    model_id: str, hub_cache: Path, *, environment: Mapping[str, str], offline: str = "", heard: bool = False,
    revision: str = "main", asked: str = "main", tokenizer: bool = True,
) -> str | None:  # fmt: skip
    """The reason to serve the cached copy without the network; None where the engine may ask for itself, or has been
    told not to. `revision` is what is served, and `asked` the name it was asked for by; `offline` is the setting that
    forbids the network already; with `heard` the hub has just answered.

    Raises:
        ModelAccessError: the network is forbidden, and the cache does not hold the model whole.
        HubUnreachableError: the hub does not answer, and the cache does not hold the model whole.
    """
    missing = what_is_missing(model_id, hub_cache, revision=revision, tokenizer=tokenizer)
    if offline and not missing:
        return None
    if offline:
        raise ModelAccessError(
            f"{offline}, and {hub_cache} {missing}", hint=_remedy(model_id, hub_cache, offline, asked)
        )
    if not missing and not os.access(home_of(model_id, hub_cache), os.W_OK):
        return f"{hub_cache} cannot be written, so the cached copy of {model_id} is served and the hub is not asked"
    if heard or answers(model_id, environment, revision, _SECONDS_WITHOUT if missing else _SECONDS_WITH_A_COPY):
        return None
    if missing:
        hint = f"check the network or HF_ENDPOINT; or {_remedy(model_id, hub_cache, '', asked)}"
        raise HubUnreachableError(f"the hub does not answer, and {hub_cache} {missing}", hint=hint)
    return f"the hub does not answer; the cached copy of {model_id} is served"


def _remedy(model_id: str, hub_cache: Path, offline: str, revision: str) -> str:
    pinned = commit_of(Path(revision))
    what = f"snapshots/{pinned}/" if pinned else f"refs/{revision} and snapshots/<what refs/{revision} says>/"
    layout = f"{home_of(model_id, hub_cache)}/ with {what}"
    leave = f"; or leave {offline.partition('=')[0]} out" if offline else ""
    setting = "AIM_CACHE_DIR" if hub_cache.name == "hub" else "HF_HUB_CACHE"
    also = "" if offline else ", and AIM_OFFLINE=1 spares asking"
    return (
        f"fetch it where there is a network: {fetch_command(model_id, hub_cache, revision)} ({setting} names the "
        f"cache; what is looked for is {layout}{also}), or serve a model folder{leave}"
    )


def answers(model_id: str, environment: Mapping[str, str], revision: str, seconds: float) -> bool:
    """Whether the hub answers within that time, names looked up and proxies asked included. A refusal (401, 404) is an
    answer: whom it concerns will be told by the hub's client.
    """
    heard = threading.Event()

    def ask() -> None:
        if _has_answer(model_id, environment, revision, seconds):
            heard.set()
        done.set()

    done = threading.Event()
    # a thread, because looking up a name knows no time limit (getaddrinfo(3)); it may outlive us
    threading.Thread(target=ask, daemon=True).start()
    done.wait(seconds)
    return heard.is_set()


def _has_answer(model_id: str, environment: Mapping[str, str], revision: str, seconds: float) -> bool:
    import ssl
    import urllib.error
    import urllib.request
    from http.client import HTTPException
    from urllib.parse import quote

    class Stay(urllib.request.HTTPRedirectHandler):
        """Being sent elsewhere is an answer too."""

        def redirect_request(self, *_: object) -> None:
            return None

    # No certificate is checked, for the machine's own list may lack what the client's (certifi) has; nothing secret is
    # sent, and nothing of the answer is believed but that there is one.
    unchecked = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())  # noqa: S323
    endpoint = (environment.get("HF_ENDPOINT") or _HUB).rstrip("/")
    try:
        at = quote(revision, safe="")
        request = urllib.request.Request(f"{endpoint}/{model_id}/resolve/{at}/config.json", method="HEAD")  # noqa: S310
        with urllib.request.build_opener(unchecked, Stay()).open(request, timeout=seconds):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500 and error.code != _OVERLOADED
    except (OSError, ValueError, HTTPException):
        return False
