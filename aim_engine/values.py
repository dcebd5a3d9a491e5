"""One typed text in, a checked value out, or a `RefusedError` that says what would be legal.

The kinds of values a setting can have. Knows no setting by name.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aim_engine.secret_shapes import KEY, masked, place_of_one

# The words that requests, recipes and model cards share.
PRECISIONS = ("fp4", "fp8", "int4", "int8", "bf16", "fp16")
METRICS = ("latency", "throughput")
EVIDENCE_LEVELS = ("derived", "reported", "parsed", "served", "measured")  # weakest first

_HUB_ID = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?/[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,199}", re.ASCII)
_MAX_HUB_ID = 96  # this and the next are the hub's own rules (huggingface_hub, validate_repo_id)
_NO_HUB_ID = re.compile(r"--|\.\.|\.git$")


class RefusedError(ValueError):
    """A value that a setting's parser will not take; the text says what is legal."""


class SecretRefusedError(RefusedError):
    """A value with a secret where none may stand: it is not to be quoted."""


def choice(*legal: str, also: Mapping[str, str] | None = None) -> Callable[[str], str]:
    def parse(text: str) -> str:
        lowered = text.strip().lower()
        lowered = (also or {}).get(lowered, lowered)
        if lowered in legal:
            return lowered
        near = difflib.get_close_matches(lowered, legal, n=1)
        raise RefusedError(f"use one of {', '.join(legal)}" + (f" (did you mean {near[0]}?)" if near else ""))

    return parse


def integer(low: int, high: int | None, *words: str, none_word: str | None = None) -> Callable[[str], int | str | None]:
    legal = f"a whole number from {low} to {high}" if high is not None else f"a whole number of at least {low}"
    legal = " or ".join((*words, *((none_word,) if none_word else ()), legal))

    def parse(text: str) -> int | str | None:
        lowered = text.strip().lower()
        if lowered in words:
            return lowered
        if none_word is not None and lowered == none_word:
            return None
        # isascii: Python would read other scripts' digits too, the engine would not
        if not (lowered.isascii() and lowered.isdigit()) or len(lowered) > 12:
            raise RefusedError(f"use {legal}")
        number = int(lowered)
        if number < low or (high is not None and number > high):
            raise RefusedError(f"use {legal}")
        return number

    return parse


def seconds(low: float, none_word: str | None = None, *, or_zero: bool = False) -> Callable[[str], float | None]:
    def parse(text: str) -> float | None:
        if none_word is not None and text.strip().lower() == none_word:
            return None
        number = float(text) if re.fullmatch(r"\d{1,7}(\.\d{1,6})?", text.strip(), re.ASCII) else -1.0
        if number < low and not (or_zero and number == 0):
            words = ["0"] if or_zero else []
            words += [none_word] if none_word else []
            raise RefusedError(", or ".join((f"use a number of seconds, at least {low:g}", *words)))
        return number

    return parse


_UNITS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size(low: int) -> Callable[[str], int]:
    """`16g`, `512m` or bytes, as docker reads sizes."""

    def parse(text: str) -> int:
        number, unit = (text, "b") if text[-1:].isdigit() else (text[:-1], text[-1:].lower())
        if unit in _UNITS and number.isascii() and number.isdigit() and len(number) <= 15:
            found = int(number) * int(1024 ** _UNITS[unit])
            if found >= low:
                return found
        raise RefusedError("use a whole number and b, k, m, g or t: 64g" + (f"; at least {low}" if low > 1 else ""))

    return parse


def switch(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise RefusedError("use 1 or 0 (true, yes, on, false, no and off are understood too)")


_OPTIONS = '{"max-num-seqs": 64}'
_EXPECTATION = '{"recipe_id": "qwen3-32b-mi300x-bf16"}'


def json_object(text: str, *, example: str = _EXPECTATION) -> dict[str, Any]:
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_refuse_repeats
        )
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate can be written in JSON, but not passed on
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"use a JSON object such as {example}; this is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RefusedError(f"use a JSON object such as {example}, not a {type(value).__name__}")
    return value


def engine_options(text: str) -> dict[str, Any]:
    """Options of an engine, as they may stand in its command line, a plan and a manifest: without any secret."""
    value = json_object(text, example=_OPTIONS)
    for key in value:
        if not re.fullmatch(r"[A-Za-z][\w.-]*", key):
            shown = repr(masked(key))
            raise RefusedError(f"{shown} is not the name of an engine option; write names without dashes in front")
        if any("\x00" in word for word in _words(value[key])):
            raise RefusedError(f"{key} holds a NUL character, which no command line can carry")
    if len({key.replace("_", "-") for key in value}) < len(value):
        raise RefusedError("one option is there twice, with dashes and with underscores")
    _refuse_secrets(value)
    return value


def _refuse_secrets(options: Mapping[str, Any]) -> None:
    """None within an option. A whole one that is a secret (api-key) has a setting, which the engine's own part tells
    of.
    """
    for key, value in options.items():
        whole = KEY.fullmatch(key) and "." not in key
        found = None if whole else place_of_one({key: value})
        if found is not None:
            raise SecretRefusedError(
                f"use no secret in it: {found} looks like one, and a command line, a plan and a manifest are read by "
                "many; let the engine read it from a variable (--env NAME) or a file of its own"
            )


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _words(value: Any) -> list[str]:
    """The texts that would be passed on as they are; deeper ones are passed on as JSON."""
    return [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is too large a number")
    return float(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def text_line(text: str) -> str:
    if not text.strip() or "\x00" in text or "\n" in text:
        raise RefusedError("use a non-empty value on one line")
    return text.strip()


def file_name(text: str) -> str:
    """A name that stays in its folder."""
    if not _FILE_NAME.fullmatch(text):
        raise RefusedError("use up to 200 letters, digits, '_', '.' and '-', beginning with a letter or digit")
    return text


def path_text(text: str) -> Path:
    path = Path(text_line(text))
    try:
        return path.expanduser()
    except RuntimeError as error:  # a ~user that does not exist
        raise RefusedError(f"use a path that exists: {error}") from None


def secret_text(text: str) -> str:
    """Secrets are sent in HTTP headers, and clients differ in how they send anything but ASCII there."""
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise RefusedError("use a value of printable ASCII characters without spaces around it")
    return text


def secret_file(path: str) -> str:
    """The first line of a small regular file; a pipe could make us wait for ever, a folder holds no line."""
    try:
        descriptor = os.open(path_text(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RefusedError("it is not a regular file")
            content = os.read(descriptor, _LARGEST_SECRET_FILE + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RefusedError(error.strerror or str(error)) from None
    if len(content) > _LARGEST_SECRET_FILE:
        raise RefusedError("it is larger than 64 KiB")
    line = content.decode("utf-8", "replace").partition("\n")[0].removesuffix("\r")
    if not line or "\N{REPLACEMENT CHARACTER}" in line:
        raise RefusedError("its first line is empty" if not line else "its first line is not UTF-8")
    return secret_text(line)


_LARGEST_SECRET_FILE = 64 * 1024
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]{1,44}", re.ASCII)


def host_name(text: str) -> str:
    """A name or an IP address of a machine, without scheme, port or brackets."""
    name = text.strip()
    if not _HOST_NAME.fullmatch(name) or name.count(":") == 1:
        raise RefusedError("use a host name or an IP address alone: leader.example.org, 10.0.0.7")
    return name


_read_port = integer(1, 65535)


def _port(text: str) -> int:
    return int(_read_port(text) or 0)


@dataclass(frozen=True, kw_only=True)
class PortRange:
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


DEFAULT_PORT_RANGE = PortRange(first=8000, last=8999)


def port_range(text: str) -> PortRange:
    first, dash, last = text.strip().partition("-")
    if dash:
        found = PortRange(first=_port(first), last=_port(last))
        if found.first < found.last:
            return found
    raise RefusedError("use two ports, the lower first: 8000-8999")


def model_text(text: str) -> str:
    text = text_line(text)
    if names_a_folder(text):
        path_text(text)
        return text
    if is_hub_id(text):
        return text
    raise RefusedError(
        "use a Hugging Face id such as Qwen/Qwen3-32B, or the path of a model folder (/models/mine, ./mine)"
    )


_REVISION = re.compile(r"[A-Za-z0-9](?:[\w.+-]|/(?!/)){0,199}", re.ASCII)


def revision_text(text: str) -> str:
    """A branch, a tag or a commit of a repository."""
    text = text_line(text)
    if not _REVISION.fullmatch(text) or ".." in text or text.endswith(("/", ".lock")):
        raise RefusedError(
            "use the name of a branch or tag (main, v1.0, refs/pr/1), or a commit of 40 hexadecimal digits"
        )
    return text


def slug(text: str) -> str:
    """The text in small letters and digits, with single dashes between: "RX 7900 XTX" is "rx-7900-xtx", "*" empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def is_hub_id(text: str) -> bool:
    """Whether the hub would take it for a model's id."""
    return bool(_HUB_ID.fullmatch(text)) and len(text) <= _MAX_HUB_ID and not _NO_HUB_ID.search(text)


def names_a_folder(model: str) -> bool:
    """True when `model` is written as a path, or is a model folder that exists here. A folder that merely has a hub
    id's name (a clone of our own recipes has a Qwen/Qwen3-32B) is none.
    """
    if model.startswith(("/", "./", "../", "~")) or model in (".", ".."):
        return True
    # os.path says no where pathlib raises: a name too long, a working directory that may not be looked into
    there = os.path.isdir(model)  # noqa: PTH112
    return there and (not _HUB_ID.fullmatch(model) or os.path.isfile(f"{model}/config.json"))  # noqa: PTH113
