"""Predicted beside actual, as a table: the `memory` of an endpoint's /status in, lines for people out.

What an endpoint says is not trusted to be of any shape: what is none of a table's is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.cli.running import NOTHING


def memory_table(memory: Mapping[str, Any]) -> list[str]:
    """`name  predicted  actual  difference  basis`, and the cache's tokens; nothing before there is anything actual."""
    from aim_engine.report import table

    found = (line for line in _list(memory, "lines") if isinstance(line, Mapping))
    lines = [line for line in found if _size(line, "predicted_bytes") is not None]
    cache = memory.get("kv_cache")
    told = dict(_tokens(cache)) if isinstance(cache, Mapping) else {}
    if all(_size(line, "actual_bytes") is None for line in lines) and "actual" not in told:
        return []
    rows = [("", "predicted", "actual", "difference", "basis"), *map(_row, lines)]
    if told:
        rows.append(("room for", told.get("predicted", NOTHING), told.get("actual", NOTHING), "", "tokens"))
    warnings = [str(one) for one in _list(memory, "warnings")]
    return [*table(rows), *warnings]


def _row(line: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    from aim_engine.selection.memory import in_gib

    predicted, actual = _size(line, "predicted_bytes") or 0, _size(line, "actual_bytes")
    name, basis = str(line.get("name", "")), str(line.get("basis", ""))
    if actual is None:
        return name, in_gib(predicted), NOTHING, "", basis
    sign = "+" if actual > predicted else ""
    difference = "exact" if actual == predicted else f"{sign}{in_gib(actual - predicted)}"
    return name, in_gib(predicted), in_gib(actual), difference, basis


def _tokens(cache: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("predicted", "actual"):
        side = cache.get(key)
        if isinstance(side, Mapping) and isinstance(side.get("tokens"), int):
            yield key, f"{side['tokens']:,}"


def _size(line: Mapping[str, Any], key: str) -> int | None:
    found = line.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []
