"""What a secret looks like: by the name of what holds it, and by its own shape. A value in; out, where a secret stands
in it, or None. Knows no setting and no file; standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# The names of environment variables that hold one.
VARIABLE = (
    r".*(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|_PASS|_PWD|CREDENTIALS?"
    r"|(API|ACCESS|PRIVATE|SECRET)_?KEY)|AWS_.*"
)

# Keys inside an option's JSON; a model's own config has names such as eos_token there, which are none.
KEY = re.compile(
    r"(.*[_.-])?(password|passwd|passphrase|secret|credentials?|(api|access|private|secret)[_-]?key"
    r"|(hf|auth|access|api|bearer|secret)[_-]?token)|(.*\.)?token",
    re.IGNORECASE,
)

# What publishers' keys begin with (their own documentation; GitHub's "token formats"), and passwords in addresses.
SHAPE = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{20,}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bxox[abpr]-[\w-]{10,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
# A whole value that is a hub's token, mistyped or cut short too; and names in a text that cannot be read any further.
_HUB_TOKEN = re.compile(r"hf_\w+", re.ASCII)
_NAMED = re.compile(
    r"passw|passphrase|secret|credential|(api|access|private)[_-]?key|token\b|\bkey\b|\bhf_", re.IGNORECASE
)
MASK = "(a secret)"


def masked(text: str) -> str:
    """The text without what looks like a secret in it: to quote from what may be wrong anywhere."""
    return SHAPE.sub(MASK, text)


def may_hold_one(text: str) -> bool:
    """Whether a text that could not be read is better not quoted at all."""
    return bool(SHAPE.search(text) or _NAMED.search(text))


def looks_like_one(text: str) -> bool:
    """Whether a text is a secret by its shape, or has one in it."""
    return bool(SHAPE.search(text) or _HUB_TOKEN.fullmatch(text.strip()))


def place_of_one(value: Any, above: str = "") -> str | None:
    """Where in a value of JSON a secret stands, by its key or its shape, below the name `above`; None without any. A
    text that is JSON itself is looked through too.
    """
    if isinstance(value, str):
        return above if looks_like_one(value) else _place_within(value, above)
    if isinstance(value, Mapping):
        for key, one in value.items():
            below = f"{above}.{masked(key)}".lstrip(".")
            if (KEY.fullmatch(key) and _says_something(one)) or SHAPE.search(key):
                return below
            if (found := place_of_one(one, below)) is not None:
                return found
    if isinstance(value, list):
        return next((found for one in value if (found := place_of_one(one, above)) is not None), None)
    return None


def _place_within(text: str, above: str) -> str | None:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return place_of_one(json.loads(text), above)
    except (ValueError, RecursionError):
        return None


def _says_something(value: Any) -> bool:
    """A text or a number; what is a map is looked into."""
    return bool(value) and isinstance(value, (str, int, float)) and not isinstance(value, bool)
