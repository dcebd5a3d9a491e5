"""Kills for want of memory: the kernel's counters in, how many there were, and in words why, out.

The kernel tells the one who is killed nothing, and the one who waits for it only of a SIGKILL.
"""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/")


def kills(root: Path = _ROOT) -> int:
    """So far, in our control group."""
    from aim_engine.hardware.cgroup import read_oom_kills  # here: once for each start of an engine

    return read_oom_kills(root) or 0


def since(before: int, root: Path = _ROOT) -> str:
    """Why there were more kills than `before`; "" when there were none."""
    from aim_engine.hardware.cgroup import read_limits
    from aim_engine.hardware.preflight.check import in_words

    if kills(root) <= before:
        return ""
    limit = read_limits(root).memory_bytes
    if limit is None:
        return "the machine's memory was used up"
    return f"the container's memory limit of {in_words(limit)} was reached"
