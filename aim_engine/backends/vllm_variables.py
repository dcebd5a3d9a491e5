"""A recipe's variables in, what speaks against them whatever the version out: names that neither vLLM nor a library
below it documents.

The lists and where they are from are library_variables.json. Knows no installed engine.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aim_engine.backends import vllm_versions as versions
from aim_engine.backends.base import Complaint


def variable_complaints(env: Mapping[str, str]) -> Iterator[Complaint]:
    """A variable that no version of vLLM has is an error; one that nobody documents a warning, for it may be right."""
    for name in env:
        if name.startswith(versions.VARIABLE):
            if not versions.was_ever_variable(name):
                near = _nearest(name, versions.variable_names())
                yield Complaint(key=f"env.{name}", kind="variable", replacement=near,
                                sentence=f"is a variable of no known version of vLLM{_did_you_mean(near)}")  # fmt: skip
        elif name not in documented():
            near, owner = _nearest(name, tuple(documented())), _owner(name)
            sentence = f"is no documented variable of {owner}" if owner else "is a variable that nobody here knows"
            yield Complaint(key=f"env.{name}", kind="variable", replacement=near, is_warning=True,
                            sentence=f"{sentence}{_did_you_mean(near)}")  # fmt: skip


@cache
def _libraries() -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = json.loads(Path(__file__).with_name("library_variables.json").read_bytes())[
        "libraries"
    ]
    return data


@cache
def documented() -> frozenset[str]:
    """Every variable of every library's list."""
    return frozenset(name for library in _libraries() for name in library["names"])


def _owner(name: str) -> str:
    """The library whose variables begin like that, or ""."""
    return next((one["library"] for one in _libraries() if name.startswith(tuple(one["prefixes"]))), "")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), "")


def _did_you_mean(near: str) -> str:
    return f"; did you mean {near}?" if near else ""
