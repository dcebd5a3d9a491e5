"""What of a checkpoint is in the Hugging Face cache by now: the plan and the environment in, bytes out.

The layout is huggingface_hub's (its guide "Understand caching"). Looks at folders; asks no network and judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aim_engine.catalog.hub_cache import cached_folder, home_of

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def hub_folder(environment: Mapping[str, str], cache_dir: str) -> Path:
    """Where the hub's client keeps models."""
    home = Path(environment.get("HF_HOME") or cache_dir)
    return Path(environment.get("HF_HUB_CACHE") or home / "hub")


def whole_bytes(plan: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Bytes of the whole checkpoint, and whether they are only reckoned: the ledger's line is that of one GPU."""
    if size := plan.get("checkpoint_bytes"):
        return size, False
    for line in (plan.get("memory") or {}).get("lines", ()):
        if line["name"] == "weights":
            parts = plan.get("tensor_parallel_size", 1) * plan.get("pipeline_parallel_size", 1)
            return line["bytes"] * parts, line["basis"] == "assumed"
    return None, False


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """`whole` once all that is loaded is there: a folder is, and of another kind of store nothing is known. `coming`
    says that a file was begun; `bytes` are those of the weights that are there.
    """

    whole: bool
    coming: bool = False
    bytes: int = 0


def fetched(name: str, hub: Path, revision: str) -> Fetched:
    """How much of a checkpoint is there now."""
    if name.startswith("/") or "://" in name or cached_folder(name, hub, revision) is not None:
        return Fetched(whole=True)
    coming = any((home_of(name, hub) / "blobs").glob("*.incomplete"))
    return Fetched(whole=False, coming=coming, bytes=bytes_here(name, hub, revision))


def bytes_here(name: str, hub: Path, revision: str) -> int:
    """The weights of that snapshot, and what of others has been fetched so far. Other snapshots do not count."""
    return sum(_sizes(home_of(name, hub), revision))


def _sizes(home: Path, revision: str) -> Iterator[int]:
    named, found = home / "refs" / revision, [*(home / "blobs").glob("*.incomplete")]
    with suppress(OSError, UnicodeDecodeError):
        commit = named.read_text().strip() if named.exists() else revision
        found += (home / "snapshots" / commit).iterdir() if commit else ()
    for path in found:
        if path.name.endswith((*_WEIGHTS, ".incomplete")):
            with suppress(OSError):  # a link to what is not there
                yield path.stat().st_size
