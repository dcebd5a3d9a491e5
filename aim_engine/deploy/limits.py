"""What a Docker Engine takes as limits of memory and as options of its log: typed values in, nothing or an `InputError`
out. Knows no plan. The engine itself would refuse the same, but late, and without the flag's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aim_engine.errors import InputError

_LEAST_MEMORY = 6 * 1024**2  # moby/moby, daemon/daemon_unix.go: linuxMinMemory
_WITHOUT_LIMIT = -1
_SIZE = re.compile(r"(?=.*[1-9])\d{1,12}(\.\d{1,6})? ?([kmgtp]i?)?b?", re.ASCII | re.IGNORECASE)  # docker/go-units
_TRUTH = "1|t|T|TRUE|true|True|0|f|F|FALSE|false|False"  # Go's strconv.ParseBool

# What the json-file driver takes (moby/moby, daemon/logger/jsonfilelog), with what every driver does; and in words.
_LOG_OPTIONS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "max-size": (_SIZE, "a size: 50m"),
    "max-file": (re.compile(r"0*[1-9]\d{0,4}", re.ASCII), "a number of files: 5"),
    "compress": (re.compile(_TRUTH), "true or false"),
    "mode": (re.compile("blocking|non-blocking"), "blocking or non-blocking"),
    "max-buffer-size": (_SIZE, "a size: 4m"),
    **dict.fromkeys(("labels", "labels-regex", "env", "env-regex", "tag"), (re.compile(r"(?s).*"), "text")),
}


def check_memory(memory_bytes: int | None, swap_bytes: int | None) -> None:
    """The limits of a container: memory, and memory and swap together.

    Raises:
        InputError: the engine would not take them.
    """
    if memory_bytes is not None and memory_bytes < _LEAST_MEMORY:
        raise InputError(f"--memory: {memory_bytes} bytes are too few for a container", hint="Docker's least is 6m")
    if swap_bytes in (None, 0, _WITHOUT_LIMIT):
        return
    if memory_bytes is None:
        raise InputError("--memory-swap: there is no limit of memory to add swap to", hint="give --memory too")
    if swap_bytes is not None and swap_bytes < memory_bytes:
        raise InputError(
            f"--memory-swap: {swap_bytes} bytes are less than the memory alone, {memory_bytes}",
            hint="it counts memory and swap together: give more than --memory, or -1 for no limit",
        )


def check_log_options(options: Mapping[str, str]) -> None:
    """Options of the json-file log, with our own among them.

    Raises:
        InputError: the driver has no such option, or does not take the value.
    """
    for name, text in options.items():
        if name not in _LOG_OPTIONS:
            known = ", ".join(_LOG_OPTIONS)
            raise InputError(f"--log-opt {name[:80]}: the json-file log has no such option", hint=f"use one of {known}")
        legal, words = _LOG_OPTIONS[name]
        if not legal.fullmatch(text):
            raise InputError(f"--log-opt {name}={text[:80]} is not legal", hint=f"use {words}")
    if "max-buffer-size" in options and options.get("mode") != "non-blocking":
        raise InputError("--log-opt max-buffer-size: only a log that does not block has a buffer",
                         hint="add --log-opt mode=non-blocking")  # fmt: skip
