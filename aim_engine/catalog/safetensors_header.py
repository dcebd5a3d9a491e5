"""The header of a safetensors file in, its tensors out, checked against each other and against the file's size.

Takes bytes and knows not where they came from: https://huggingface.co/docs/safetensors/index#format.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from aim_engine.catalog.checkpoint import Tensor

START_BYTES = 8  # the header's length, as a little-endian whole number
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
# The format's data types; those of less than a byte are left out, and not checked.
ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I64": 8, "I32": 4,
                 "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8}  # fmt: skip


class DamagedHeaderError(Exception):
    """What is there is no header, or not one of a file of that size."""


def header_bytes(start: bytes, file_bytes: int | None) -> int:
    """The length of the header, from the file's first eight bytes; without a size the file may be of any.

    Raises:
        DamagedHeaderError: no header has that length, or not in a file of that size.
    """
    length = struct.unpack("<Q", start)[0] if len(start) == START_BYTES else 0
    most = _MAX_HEADER_BYTES if file_bytes is None else min(_MAX_HEADER_BYTES, file_bytes - START_BYTES)
    if not 2 <= length <= most:
        raise DamagedHeaderError
    return int(length)


def tensors_of(header: bytes, file_bytes: int | None) -> dict[str, Tensor]:
    """The tensors that a header declares.

    Raises:
        DamagedHeaderError: it is no header, its entries do not agree with each other, or with the file's size.
    """
    try:
        entries = json.loads(header)
        found = {name: _tensor(entry) for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise DamagedHeaderError from None
    end = START_BYTES + len(header) + max((end for _, end in found.values()), default=0)
    if file_bytes is not None and end != file_bytes:
        raise DamagedHeaderError
    return {name: tensor for name, (tensor, _) in found.items()}


def _tensor(entry: dict[str, Any]) -> tuple[Tensor, int]:
    """A tensor and where its bytes end. Raises ValueError or TypeError where its size and its place do not agree."""
    begin, end = entry["data_offsets"]
    for number in (begin, end, *entry["shape"]):
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError("a size or a place is no whole number")
    width = ELEMENT_BYTES.get(entry["dtype"])
    if end < begin or (width is not None and end - begin != math.prod(entry["shape"]) * width):
        raise ValueError("a tensor's size and its place do not agree")
    return Tensor(dtype=entry["dtype"], shape=tuple(entry["shape"]), bytes=end - begin), end
