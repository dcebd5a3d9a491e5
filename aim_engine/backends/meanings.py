"""What an option or a variable does: its name and its backend in, a sentence out. The sentences are meanings.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal


def meaning(backend: str, kind: Literal["args", "env"], name: str) -> str:
    """The sentence, or "" where nobody has written one."""
    known: dict[str, str] = _sentences().get(backend, {}).get(kind, {})
    return known.get(name, "")


@cache
def _sentences() -> Any:
    import yaml  # here: only who explains needs it

    return yaml.safe_load(Path(__file__).with_name("meanings.yaml").read_bytes())
