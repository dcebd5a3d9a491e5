"""The engine software that is here, as a frozen value. Knows nothing of how it was found or how it is started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An installed engine: `version` as its distribution says, `platform` what it was built for ("rocm", "cpu",
    "cuda"; None when unknown), `runs_on` the vendors of accelerators that platform can use, `launch` the argv prefix
    that runs its command line here. `kernels` is the folder in which a kernel library that was found beside it keeps
    what it has compiled, `kernels_version` that library's distribution and version.
    """

    name: str
    version: str | None
    platform: str | None
    runs_on: tuple[str, ...]
    distribution: str
    launch: tuple[str, ...]
    kernels: str | None = None
    kernels_version: str | None = None
