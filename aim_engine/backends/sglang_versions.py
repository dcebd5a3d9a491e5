"""What differs between sglang's versions, and its defaults, as data.

Sources: sglang's python/sglang/srt/server_args.py and arg_groups/ (memory_hook.py for the defaults, as of 0.5.23), read
from its published wheels; sglang_options.json beside this file is made of these by scripts/sglang_options.py.
"""

from __future__ import annotations

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any

from aim_engine.backends.vllm_versions import Version, parse_version

MIB = 1024**2
GIB = 1024**3

# A GPU's least memory, and sglang's chunked prefill size and largest graph on it (its handle_gpu_memory_settings)
_BY_MEMORY = ((160 * GIB, 16384, 512), (60 * GIB, 8192, 256), (20 * GIB, 4096, 32), (0, 2048, 8))
# /health asks the engine for a token, and takes a second or more, unless told otherwise; told so it is heard since then
CHEAP_HEALTH_SINCE = (0, 5, 9)


@cache
def data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("sglang_options.json").read_bytes())
    return found


def canonical(option: str) -> str:
    """The name that an option is kept under: tp, tensor-parallel-size and tp-size are one."""
    name = str(data()["short"].get(option, option))
    return str(data()["same"].get(name, name))


def has_option(name: str, version: Version | None) -> bool:
    """Whether that version has the option; an unknown version counts as the newest listed one, and one beyond the list
    as its nearer end.
    """
    span = data()["options"].get(canonical(name))
    if span is None:
        return False
    oldest, newest = (parse_version(data()["grid"][end]) for end in (0, -1))
    first, last = (parse_version(text) for text in span)
    asked = min(max(version or newest, oldest), newest)  # type: ignore[type-var]
    return bool(first <= asked and (asked <= last or last == newest))  # type: ignore[operator]


def installed_name(name: str, version: Version | None) -> str | None:
    """What that version calls the option; None where it has nothing of the kind."""
    own = canonical(name)
    renamed = data()["renamed"]
    before = next((old for old, new in renamed.items() if new == own), own)
    return next((one for one in (own, renamed.get(own, own), before) if has_option(one, version)), None)


def was_ever_option(name: str) -> bool:
    return canonical(name) in data()["options"]


def is_flag(name: str) -> bool:
    """An option without a value, which can only be there or not."""
    return canonical(name) in data()["flags"]


def is_switch(name: str) -> bool:
    """An option without a value that can be denied as --no-x."""
    return canonical(name) in data()["switches"]


def remedy(name: str, version: Version | None = None) -> str:
    """What to write instead of an option that is not there, or ""."""
    if told := data()["replaced"].get(canonical(name), ""):
        return str(told)
    known = [option for option in data()["options"] if has_option(option, version)]
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else ""


def default_batch_tokens(memory_bytes: int) -> int:
    return next(tokens for least, tokens, _ in _BY_MEMORY if memory_bytes >= least)


def default_memory_fraction(memory_bytes: int, batch_tokens: int, gpu_count: int) -> float:
    """sglang's mem-fraction-static when nobody sets it: what is left after a reserve for activations and graphs. Its
    own sum has more terms (prefill graphs, images, draft models); this one is theirs for a text model.
    """
    graphs = next(size for least, _, size in _BY_MEMORY if memory_bytes >= least)
    reserve_mib = 512 + max(batch_tokens, 2048) * 1.5 + gpu_count / 8 * 1024 + graphs * 2
    if memory_bytes > 60 * GIB:
        reserve_mib = max(reserve_mib, 10 * 1024)
    return round(max(0.1, 1 - reserve_mib * MIB / memory_bytes), 3)
