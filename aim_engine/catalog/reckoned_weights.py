"""The bytes of a model's checkpoints that are known in, those of one in another precision out, with their range.

Knows what quantising leaves in 16 bits and what it adds; no file and no GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aim_engine.catalog.architecture import Architecture

_UNIT = 32  # parts of a bit, in which the numbers below are whole
# Bits that an element of a quantised matrix takes together with its scales and zeros. int4 as AWQ and GPTQ store it, in
# groups of 128 with a scale of 16 bits and a zero of 4; mxfp4 with a scale of 8 bits for each 32.
_TAKES = {"bf16": 16 * _UNIT, "fp16": 16 * _UNIT, "fp8": 8 * _UNIT, "int8": 8 * _UNIT, "int4": 4 * _UNIT + 5,
          "fp4": 4 * _UNIT + 8}  # fmt: skip
_AT_LEAST = _TAKES | {"int4": 4 * _UNIT + 4}  # symmetric: no zeros
# Above: smaller groups (a group of 32 makes 4.63 bits of int4), layers and towers that their publisher left in 16 bits.
_MOST_PERCENT = 115


@dataclass(frozen=True, kw_only=True)
class Reckoned:
    """Bytes of a checkpoint's weights: what they rest on ("exact", "computed" or "assumed"), and their range."""

    bytes: int
    basis: str
    least: int
    most: int


def known_weights(size_bytes: int, basis: str) -> Reckoned:
    """Of a checkpoint that somebody counted."""
    return Reckoned(bytes=size_bytes, basis=basis, least=size_bytes, most=size_bytes)


def reckoned_weights(
    known: Mapping[str, int], precision: str, *, basis: str, shape: Architecture | None, tied: bool
) -> Reckoned:
    """From the known one of the most bits, whose bytes rest on `basis`: embedding and head stay in 16 bits."""
    other = max(known, key=lambda name: _TAKES[name])
    if _TAKES[precision] == _TAKES[other]:
        return known_weights(known[other], basis)
    one_table = 2 * shape.vocab_size * shape.hidden_size if shape else 0
    kept = _left_in_16_bits(known) or one_table * (1 if tied else 2)
    size = _in(precision, known[other], other, kept, _TAKES)
    # nobody may have said that head and embedding are one table
    least = min(_in(precision, known[other], other, kept, _AT_LEAST),
                _in(precision, known[other], other, min(kept, one_table), _AT_LEAST))  # fmt: skip
    return Reckoned(bytes=size, basis="assumed", least=least, most=size * _MOST_PERCENT // 100)


def _left_in_16_bits(known: Mapping[str, int]) -> int:
    """What two known checkpoints, in 16 and in 8 bits, say of it: twice the smaller counts this part once more."""
    wide = known.get("bf16") or known.get("fp16")
    half = known.get("fp8") or known.get("int8")
    return max(0, 2 * half - wide) if wide and half else 0


def _in(precision: str, size: int, other: str, kept: int, takes: Mapping[str, int]) -> int:
    kept = min(kept, size)
    return kept - (-(size - kept) * takes[precision] // _TAKES[other])
