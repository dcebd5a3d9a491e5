"""Where vLLM and what is below it keep what they download and compile: all in the one cache folder, so that a second
start finds it. In: the installed engine and the cache folder; out: variables, and links to make.

Nothing of AITER's here could be tried on a GPU; it follows AITER's own source (github.com/ROCm/aiter,
aiter/jit/core.py).
"""

from __future__ import annotations

from pathlib import Path

from aim_engine.backends.base import ServerLinks
from aim_engine.backends.vllm_platforms import Platform
from aim_engine.hardware.installed import Engine

# AITER compiles kernels at their first use and keeps them in its own package, or, where that cannot be written, in a
# copy below the home folder that no later version renews. With this variable it looks in that folder alone, so the
# kernels that the image brings are linked into it. A version that knows no such variable does as it always did.
KERNELS = "AITER_JIT_DIR"
_KERNELS_PACKAGE = Path("aiter", "jit")
_DISTRIBUTIONS = ("amd_aiter-*.dist-info", "aiter-*.dist-info")


def find_kernels(search_path: tuple[str, ...]) -> tuple[str | None, str | None]:
    """AITER's folder of compiled kernels on the import path, and the name and version of its distribution."""
    for folder in map(Path, search_path):
        if (folder / _KERNELS_PACKAGE).is_dir():
            found = [path.name for pattern in _DISTRIBUTIONS for path in folder.glob(pattern)]
            version = max(found, default="").removesuffix(".dist-info")
            return str(folder / _KERNELS_PACKAGE), version or None
    return None, None


def variables(engine: Engine | None, cache: Path, platform: Platform) -> dict[str, str]:
    """The variables that lead everything into the cache folder."""
    found = {
        "HF_HOME": str(cache),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        **{variable: str(cache / name) for variable, name in platform.caches.items()},
    }
    for linked in links(engine, cache):
        found[KERNELS] = linked.folder
    return found


def links(engine: Engine | None, cache: Path) -> tuple[ServerLinks, ...]:
    """The kernels that the image brings, to be found beside those compiled here. One folder for each version of the
    kernel library: compiled kernels of another one would be loaded as they are.
    """
    if engine is None or engine.kernels is None:
        return ()
    version = engine.kernels_version or f"of-{engine.distribution}-{engine.version}"
    return (ServerLinks(folder=str(cache / "aiter" / version), source=engine.kernels, pattern="*.so"),)
