"""What a program asks for by keywords: names and Python values in, a `Request` and the wishes for a container out.

Every setting is a keyword by its field's name, checked as its flag is. Looks at nothing, and starts nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from aim_engine.deploy.inside import as_text, checked_variables
from aim_engine.deploy.launch import check_wishes
from aim_engine.deploy.launch_job import DEVICE_MODES, Wishes
from aim_engine.deploy.replicas import MOST_REPLICAS
from aim_engine.errors import InputError
from aim_engine.request import SETTINGS, Request, read_request

_SETTINGS = {setting.field: setting for setting in SETTINGS}
# What a launch's keywords are called, by the wish they are.
_WISHES = {one.name: one.name for one in fields(Wishes)} | {"extra": "env", "timeout_seconds": "timeout"}
_WHOLE = ("memory_bytes", "memory_swap_bytes", "shm_bytes")
_TEXT = ("image", "name", "network", "user", "restart", "seccomp")


def request_of(
    keywords: Mapping[str, Any], environment: Mapping[str, str], *, also: Iterable[str] = (), ports_follow: bool = False
) -> Request:
    """The request that settings' keywords make; None is the same as leaving one out. `also` are further names that
    would have been understood.

    Raises:
        InputError: a name is no setting's, or a value is not legal.
    """
    given = {name: value for name, value in keywords.items() if value is not None}
    for name in keywords:
        if name not in _SETTINGS:
            raise _unknown(name, (*_SETTINGS, *also))
    texts: dict[str, str | None] = {}
    for name, value in given.items():
        if isinstance(value, bool) and not _SETTINGS[name].switch:  # or it would be read as the number 1
            raise InputError(f"{name}: {value} is not legal", hint=f"use {_SETTINGS[name].legal}")
        try:
            texts[name] = as_text(_SETTINGS[name], value)
        except (TypeError, ValueError):
            raise InputError(f"{name}: {repr(value)[:80]} is not legal", hint="give text, or what JSON knows") from None
    return read_request(texts, _with_secrets(texts, environment), ports_follow=ports_follow, typed_as="keyword")


def checked_environment(environment: Any) -> dict[str, str]:
    """The environment that a program gives.

    Raises:
        InputError: it is no mapping of texts.
    """
    if not isinstance(environment, Mapping):
        raise InputError(f"environment: {repr(environment)[:80]} is not legal", hint="use a mapping of texts")
    for name, text in environment.items():
        if not isinstance(name, str) or not isinstance(text, str):
            shown = repr(name)[:80] if isinstance(name, str) else "a name that is no text"  # not its value: a secret
            raise InputError(f"environment: {shown} is not legal", hint="use a mapping of texts: {'AIM_PORT': '8000'}")
    return dict(environment)


def checked_seconds(seconds: Any) -> int | None:
    """How long a stop may take.

    Raises:
        InputError: it is no whole number of seconds.
    """
    if seconds is None or (isinstance(seconds, int) and not isinstance(seconds, bool) and seconds >= 0):
        return seconds
    raise InputError(f"timeout: {repr(seconds)[:80]} is not legal", hint="use a whole number of seconds, or None")


def _unknown(name: str, known: Iterable[str]) -> InputError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "aim-engine settings lists them; use a setting's flag with _ for -"
    return InputError(f"{name} is not a keyword of AIM Engine", hint=hint)


def _with_secrets(texts: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the secrets among the keywords in place of its own: there the engine finds them."""
    found = dict(environment)
    for name, text in texts.items():
        setting = _SETTINGS[name]
        if setting.secret and text is not None:
            for variable in (*setting.aliases, setting.file_variable):
                found.pop(str(variable), None)
            found[setting.variable] = text
    return found


def wishes_of(keywords: Mapping[str, Any]) -> tuple[Wishes, dict[str, Any]]:
    """The wishes among a launch's keywords, and the rest, which are settings.

    Raises:
        InputError: a wish cannot be used.
    """
    by_keyword = {keyword: wish for wish, keyword in _WISHES.items()}
    given = {by_keyword[name]: value for name, value in keywords.items() if name in by_keyword and value is not None}
    rest = {name: value for name, value in keywords.items() if name not in by_keyword}
    for wish, value in given.items():
        _check(wish, value)
    if "extra" in given:
        given["extra"] = checked_variables(given["extra"], giver="env:")
    wishes = Wishes(**given)
    check_wishes(wishes)
    return wishes, rest


def _check(wish: str, value: Any) -> None:
    legal = True
    words = "something else"
    if wish in _WHOLE:
        legal, words = isinstance(value, int) and not isinstance(value, bool), "a whole number of bytes"
    elif wish == "replicas":
        legal = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_REPLICAS
        words = f"a number from 1 to {MOST_REPLICAS}"
    elif wish in _TEXT:
        legal, words = isinstance(value, str), "text"
    elif wish in ("extra", "log_options"):
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        legal, words = all(isinstance(word, str) for pair in pairs for word in pair), "a mapping of texts"
    elif wish == "timeout_seconds":
        legal = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        words = "a number of seconds"
    elif wish == "device_mode":
        legal, words = value in DEVICE_MODES, f"one of {', '.join(DEVICE_MODES)}"
    if not legal:
        raise InputError(f"{_WISHES[wish]}: {repr(value)[:80]} is not legal", hint=f"use {words}")


def launch_keywords() -> tuple[str, ...]:
    """The keywords of a launch that are no settings."""
    return tuple(_WISHES.values())
