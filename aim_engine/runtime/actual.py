"""Predicted beside actual: a plan's memory and what was `Seen` of the engine in; the table of /status, what is outside
of its range, and the lines that are worth remembering out. All of one device, as the plan is.

Pure. On a host's memory what can be seen is what the server's processes hold; on a GPU what the engine says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aim_engine.backends.figures import CacheFigures
from aim_engine.catalog.measurement import JOINT

# Below this nothing is worth a word: two starts of one engine differ by as much, and GiB in a log have two digits.
_SLACK_BYTES, _SLACK_SHARE = 128 * 1024**2, 0.05
WEIGHTS, CACHE, PROCESSES, ACTIVATIONS, GRAPHS = "weights", "kv cache", "processes", "activations", "graphs"
_CONTEXT = ("device context", "collectives")  # what the engine tells as one: neither weights nor its framework's


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of an engine that has just become ready. `said` are the figures of its log, `resident_bytes` what
    all of its processes held.
    """

    cache: CacheFigures | None = None
    said: Mapping[str, int] = field(default_factory=dict)
    resident_bytes: int | None = None


def measured_lines(memory: Mapping[str, Any], seen: Seen) -> dict[str, int]:
    """The lines besides weights and cache as this start had them, such that with these the ledger comes to the cache
    that the engine came to.
    """
    names = _overheads(memory)
    if PROCESSES in names:
        return _of_processes(memory, seen)
    return _of_device(memory, seen, names) if names else {}


def _of_processes(memory: Mapping[str, Any], seen: Seen) -> dict[str, int]:
    """What is held besides weights and cache. What a step needs at its peak is not in it yet: no full step was made."""
    cache = _cache_bytes(memory, seen)
    if seen.resident_bytes is None or cache is None:
        return {}
    rest = seen.resident_bytes - _predicted(memory, WEIGHTS) - cache
    return {PROCESSES: rest} if rest > 0 else {}


def _of_device(memory: Mapping[str, Any], seen: Seen, names: Sequence[str]) -> dict[str, int]:
    parts = {
        JOINT.join(name for name in names if name not in (*_CONTEXT, GRAPHS)): seen.said.get("activations"),
        JOINT.join(name for name in names if name in _CONTEXT): _context(memory, seen.said),
        (GRAPHS if GRAPHS in names else ""): seen.said.get("graphs"),
    }
    parts = {name: size for name, size in parts.items() if name}
    cache = _cache_bytes(memory, seen)
    if memory.get("cache_given"):  # then the cache tells nothing of the rest
        known = {name: size for name, size in parts.items() if size is not None}
        return known if len(known) == len(parts) else {}
    total = _budget(memory) - _predicted(memory, WEIGHTS) - cache if cache is not None else 0
    return (_shared_out(total, parts) or {JOINT.join(names): total}) if total > 0 else {}


def _shared_out(total: int, parts: Mapping[str, int | None]) -> dict[str, int]:
    """The total among the lines. What the log does not tell for certain is graphs: the engine sets aside an estimate,
    or lets them go beyond its share (vLLM before 0.21). So they get the rest; a log's figures are rounded besides.
    """
    found, left = {}, total
    for name, size in parts.items():
        if name != GRAPHS:
            if size is None:
                return {}
            found[name] = min(left, size)
            left -= found[name]
    rest = GRAPHS if GRAPHS in parts else next(iter(found))
    found[rest] = found.get(rest, 0) + left
    return found


def _context(memory: Mapping[str, Any], said: Mapping[str, int]) -> int | None:
    if "other" in said:
        return max(0, said["other"])  # less than nothing where an allocator of its own keeps the weights
    if "consumed" in said:
        return max(0, said["consumed"] - said.get("weights", _predicted(memory, WEIGHTS)))
    return None


def compared(memory: Mapping[str, Any], seen: Seen | None) -> dict[str, Any]:
    """`{lines: [{name, predicted_bytes, low_bytes, high_bytes, actual_bytes, basis}], kv_cache: {predicted, actual},
    warnings: [...]}`; what is not known is null.
    """
    actual = measured_lines(memory, seen) if seen else {}
    cache = _cache_bytes(memory, seen) if seen else None
    said = seen.said.get("weights") if seen else None
    rows = [_row(group, size) for group, size in _grouped(memory, {**actual, WEIGHTS: said})]
    if (kept := _cache_row(memory, cache)) is not None:
        rows.insert(1, kept)
    predicted = memory.get("capacity") if rows else None
    told = seen.cache.as_json() if seen and seen.cache else None
    return {"lines": rows, "kv_cache": {"predicted": predicted, "actual": told},
            "warnings": [*_outside(rows), *_cache_warning(memory, predicted, seen)]}  # fmt: skip


def _grouped(
    memory: Mapping[str, Any], actual: Mapping[str, int | None]
) -> Iterable[tuple[list[Mapping[str, Any]], int | None]]:
    """The plan's lines but the cache's, those together that were measured together."""
    left = [line for line in _lines(memory) if line["name"] != CACHE]
    while left:
        name = left[0]["name"]
        joint = next((one for one in actual if set(name.split(JOINT)) <= set(one.split(JOINT))), name)
        group = [line for line in left if set(line["name"].split(JOINT)) <= set(joint.split(JOINT))]
        left = [line for line in left if line not in group]
        yield group, actual.get(joint)


def _row(group: Sequence[Mapping[str, Any]], actual: int | None) -> dict[str, Any]:
    return {
        "name": JOINT.join(line["name"] for line in group),
        "predicted_bytes": sum(line["bytes"] for line in group),
        "low_bytes": sum(line.get("low_bytes", line["bytes"]) for line in group),
        "high_bytes": sum(line.get("high_bytes", line["bytes"]) for line in group),
        "actual_bytes": actual,
        "basis": ", ".join(dict.fromkeys(line["basis"] for line in group)),
    }


def _cache_row(memory: Mapping[str, Any], actual: int | None) -> dict[str, Any] | None:
    """The cache that the engine makes, which is what the others leave; the plan's own line is the least of it."""
    line = next((line for line in _lines(memory) if line["name"] == CACHE), None)
    if line is None or not memory.get("block_bytes"):
        return None
    held = memory["capacity"]["blocks"] * memory["block_bytes"]
    low = high = held
    if not memory.get("cache_given"):
        others = [one for one in _lines(memory) if one["name"] != CACHE]
        low = max(0, _budget(memory) - sum(one.get("high_bytes", one["bytes"]) for one in others))
        high = max(0, _budget(memory) - sum(one.get("low_bytes", one["bytes"]) for one in others))
    return {"name": CACHE, "predicted_bytes": held, "low_bytes": min(low, held), "high_bytes": max(high, held),
            "actual_bytes": actual, "basis": line["basis"]}  # fmt: skip


def _outside(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        low, high, actual = row["low_bytes"], row["high_bytes"], row["actual_bytes"]
        slack = max(_SLACK_BYTES, int(row["predicted_bytes"] * _SLACK_SHARE))
        if actual is not None and row["name"] != CACHE and not low - slack <= actual <= high + slack:
            found.append(f"memory: {row['name']} took {_in_mib(actual)} of a device, and {_range(low, high)} was "
                         "predicted")  # fmt: skip
    return found


def _cache_warning(memory: Mapping[str, Any], predicted: Any, seen: Seen | None) -> list[str]:
    row = _cache_row(memory, None)
    if row is None or seen is None or seen.cache is None or _is_guess(memory):
        return []
    blocks, size = seen.cache.blocks, memory["block_bytes"]
    low, high = row["low_bytes"] // size, row["high_bytes"] // size
    slack = 0 if memory.get("cache_given") else _SLACK_BYTES // size
    if low - slack <= blocks <= high + slack:
        return []
    wanted = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return [f"memory: the KV cache has {blocks:,} blocks of {memory.get('block_tokens')} tokens, and {wanted} "
            "were predicted"]  # fmt: skip


def _lines(memory: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(memory.get("lines") or ())


def _overheads(memory: Mapping[str, Any]) -> list[str]:
    """The names of single lines besides weights and cache, whatever was measured together before."""
    return [name for line in _lines(memory) if line["name"] not in (WEIGHTS, CACHE)
            for name in line["name"].split(JOINT)]  # fmt: skip


def _predicted(memory: Mapping[str, Any], name: str) -> int:
    return next((int(line["bytes"]) for line in _lines(memory) if line["name"] == name), 0)


def _budget(memory: Mapping[str, Any]) -> int:
    return int(memory.get("budget_bytes") or 0)


def _cache_bytes(memory: Mapping[str, Any], seen: Seen) -> int | None:
    """What the cache takes; where the size of a block is a guess, what the engine was told to take, or says."""
    size = memory.get("block_bytes")
    if _is_guess(memory):
        return _predicted(memory, CACHE) if memory.get("cache_given") else seen.said.get("kv_cache")
    return seen.cache.blocks * int(size) if seen.cache and size else None


def _is_guess(memory: Mapping[str, Any]) -> bool:
    return any(line["name"] == CACHE and line["basis"] == "assumed" for line in _lines(memory))


def _range(low: int, high: int) -> str:
    return _in_mib(low) if low == high else f"{_in_mib(low)} to {_in_mib(high)}"


def _in_mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:,.0f} MiB"
