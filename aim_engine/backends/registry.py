"""The table of backends: a name in, a `Backend` out.

Plug-ins join through the entry point group `aim_engine.backends`.
"""

from __future__ import annotations

import difflib
import importlib
from typing import cast

from aim_engine.backends.base import Backend
from aim_engine.errors import InputError

BUILT_IN = ("vllm", "sglang")  # modules of this package: most plans load one of them


def backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    found = _built_in(name) or _plug_in(name)
    if found is None:
        known = [*BUILT_IN, *_plug_in_names()]
        near = difflib.get_close_matches(name, known, n=1)
        raise InputError(
            f"AIM_BACKEND: {name!r} is not a backend of this installation",
            hint=(f"did you mean {near[0]}? " if near else "") + f"use one of {', '.join(known)}",
        )
    return found


def is_known(name: str) -> bool:
    """Whether this installation has a backend of that name."""
    return name in BUILT_IN or name in _plug_in_names()


def _built_in(name: str) -> Backend | None:
    return cast(Backend, importlib.import_module(f"aim_engine.backends.{name}")) if name in BUILT_IN else None


def _plug_in(name: str) -> Backend | None:
    from importlib.metadata import entry_points  # here: it costs more than a plan, and only plug-ins need it

    found = entry_points(group="aim_engine.backends", name=name)
    return cast(Backend, next(iter(found)).load()) if found else None


def _plug_in_names() -> list[str]:
    from importlib.metadata import entry_points

    return sorted(entry_points(group="aim_engine.backends").names)
