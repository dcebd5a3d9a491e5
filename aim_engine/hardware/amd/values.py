"""Single values of amdsmi's answers: anything in, a text or a number that says something out, or None.

"Not available" comes as text from most calls and as the field's largest value from the rest, which the package lets
through (seen with 6.4.4 and 7.0.2). Knows no field's meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SENTINELS = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_SAYS_NOTHING = {"", "N/A", *(hex(number).upper() for number in _SENTINELS), *map(str, _SENTINELS), "FF.FF.FF.FF"}
_MOST = 1 << 60  # an exbibyte: no size and no number of anything here is larger
_LONGEST = 200
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.ASCII)
_UNIQUE_ID = re.compile(r"(?:0x)?([0-9a-f]{1,16})", re.ASCII)


def part(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What is under `key` if that is an object, else an empty one."""
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def items(raw: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of the list under `key`."""
    value = raw.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(value: object) -> str | None:
    """A text that says something: not "N/A", not empty, not a leaked all-ones number, nothing unprintable."""
    if not isinstance(value, str):
        return None
    printable = "".join(letter for letter in value[: 4 * _LONGEST] if letter.isprintable()).strip()[:_LONGEST]
    return None if printable.upper() in _SAYS_NOTHING else printable


def whole(value: object) -> int | None:
    """A number that says something: not one of the largest values that stand for "not available"."""
    if not isinstance(value, int) or isinstance(value, bool) or value in _SENTINELS:
        return None
    return value if 0 <= value <= _MOST else None


def address(value: object) -> str | None:
    """A PCI address ("0000:05:00.0")."""
    found = (text(value) or "").lower()
    return found if _ADDRESS.fullmatch(found) else None


def unique_id(value: object) -> str | None:
    """The 16 hex digits by which ROCR names a GPU; GPUs without one (many Radeons) have zeros here."""
    match = _UNIQUE_ID.fullmatch((text(value) or "").lower())
    return match[1].zfill(16) if match and match[1].strip("0") else None
