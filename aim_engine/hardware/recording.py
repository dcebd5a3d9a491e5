"""What a recorded host says of itself in recording.json: a root folder in, its device nodes and variables out.

A copied tree cannot carry who may open a device, nor what was set where it was made. Damage means that nothing is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aim_engine.hardware.cgroup import read_text
from aim_engine.hardware.kfd.read import RECORDING
from aim_engine.hardware.visibility import NAMES

_MOST_BYTES = 2**20
_MOST_LETTERS = 2048


@dataclass(frozen=True, kw_only=True)
class DeviceNode:
    """How a device node was on the recorded host; None where it does not say."""

    opens: bool | None = None
    group: int | None = None
    mode: int | None = None


def device_nodes(root: Path) -> dict[str, DeviceNode]:
    """By their paths ("/dev/kfd")."""
    said = _part(root, "device_nodes")
    return {path: _node(state) for path, state in said.items() if isinstance(state, dict)}


def variables(root: Path) -> dict[str, str]:
    """The variables that chose among the GPUs where it was recorded."""
    said = _part(root, "variables")
    found = {name: said.get(name) for name in NAMES}
    return {
        name: text
        for name, text in found.items()
        if isinstance(text, str) and text.isprintable() and len(text) <= _MOST_LETTERS
    }


def _node(state: Mapping[str, Any]) -> DeviceNode:
    opens, group, mode = (state.get(key) for key in ("opens", "group", "mode"))
    known = isinstance(group, int) and not isinstance(group, bool) and 0 <= group < 2**32
    return DeviceNode(
        opens=opens if isinstance(opens, bool) else None,
        group=group if known else None,
        mode=int(mode, 8) if isinstance(mode, str) and re.fullmatch("[0-7]{3,4}", mode) else None,
    )


def _part(root: Path, key: str) -> Mapping[str, Any]:
    try:
        said = json.loads(read_text(root / RECORDING, most_bytes=_MOST_BYTES) or "")
    except (ValueError, RecursionError):
        return {}
    part = said.get(key) if isinstance(said, dict) else None
    return part if isinstance(part, dict) else {}
