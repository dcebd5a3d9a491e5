"""A recipe's environment in, what the INSTALLED vLLM's own registry of variables (vllm.envs) says against it out.

Every value is read by vLLM's own reader. Imports vLLM's registry only; starts nothing.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from aim_engine.backends.base import Complaint
from aim_engine.backends.vllm_parser import did_you_mean, nearest, shown

PREFIX = "VLLM_"
_SWITCH = ("0", "1", "true", "false")


class InstalledRegistry:
    """vLLM's variables, as installed."""

    def __init__(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            registry = importlib.import_module("vllm.envs")
        self._readers: Mapping[str, Callable[[], object]] = registry.environment_variables
        self._kinds = _annotations(Path(str(registry.__file__)))

    @property
    def names(self) -> list[str]:
        """Every variable of vLLM's own name."""
        return sorted(name for name in self._readers if name.startswith(PREFIX))

    def complaints(self, env: Mapping[str, str]) -> Iterator[Complaint]:
        for name, value in env.items():
            if name.startswith(PREFIX) and name not in self._readers:
                near = nearest(name, self.names)
                yield Complaint(
                    key=f"env.{name}",
                    kind="unknown",
                    sentence=f"is no variable of this vLLM, so it would do nothing{did_you_mean(near)}",
                    replacement=near,
                )
            elif name in self._readers and (said := self._refusal(name, value)):
                yield Complaint(key=f"env.{name}", kind="ill-typed", sentence=said)

    def _refusal(self, name: str, value: str) -> str:
        if "bool" in self._kinds.get(name, "") and value.strip().lower() not in _SWITCH:
            return f"is a switch, and vLLM does not read {value!r} as one: write 1 or 0"
        said = _read_as(name, value, self._readers[name])
        return f"is refused by vLLM: {said}" if said else ""


def _read_as(name: str, value: str, read: Callable[[], object]) -> str:
    """What vLLM's own reader says of a value, or ""; it looks into this process's environment, which stays as it is."""
    before = dict(os.environ)  # noqa: TID251 - vLLM's readers take no other
    os.environ[name] = value  # noqa: TID251
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            read()
    except Exception as error:  # ValueError of a number, whatever else a reader of a path or of JSON raises
        return shown(str(error)) or type(error).__name__
    finally:
        os.environ.clear()  # noqa: TID251
        os.environ.update(before)  # noqa: TID251
    return ""


def _annotations(source: Path) -> dict[str, str]:
    """The types that vllm/envs.py declares for type checkers: the registry itself holds readers only."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    declared = [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    return {ast.unparse(node.target): ast.unparse(node.annotation) for node in declared}
