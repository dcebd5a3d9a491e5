"""The Hugging Face cache as it lies on the disk: a model's id and the cache's folder in; its snapshot, or what that
lacks, out.

The layout is huggingface_hub's (its guide "Understand caching"): models--org--name/refs/main names the folder below
models--org--name/snapshots/. Asks no network, reads no weights.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".safetensors", ".bin", ".pt")
_RARER_WEIGHTS = (".gguf", ".pth")
# Parts of the names of what a tokenizer is read from: tokenizer.json, vocab.txt, spiece.model, x.tiktoken, tekken.json.
_TOKENIZER = ("token", "vocab", "merges", ".model", "tekken")


def home_of(model_id: str, hub_cache: Path) -> Path:
    """Where the cache keeps everything of a model."""
    return hub_cache / f"models--{model_id.replace('/', '--')}"


def cached_folder(model_id: str, hub_cache: Path, revision: str = "main") -> Path | None:
    """The model's snapshot at that revision, or None where it is absent or not whole."""
    folder = _snapshot(home_of(model_id, hub_cache), revision)
    return folder if folder is not None and _is_whole(folder) else None


def what_is_missing(model_id: str, hub_cache: Path, *, revision: str = "main", tokenizer: bool = True) -> str:
    """What keeps the cached copy from being served without a network, as the end of a sentence that begins with the
    cache; "" where nothing does. With `tokenizer` a tokenizer must be there too.
    """
    home = home_of(model_id, hub_cache)
    if not os.path.exists(home):  # noqa: PTH110 - says no where Path.exists raises
        return f"does not hold {model_id}"
    folder = _snapshot(home, revision)
    if folder is None:
        which = revision if _COMMIT.fullmatch(revision) else f"that refs/{revision} names"
        return f"has no snapshot of {model_id} {which}"
    try:
        present = {path.name for path in folder.iterdir() if path.exists()}
    except OSError as error:
        return f"has a snapshot of {model_id} that cannot be read ({error.strerror})"
    lacking = [] if "config.json" in present else ["config.json"]
    lacking += _missing_shards(folder, present)
    if not any(name.endswith((*_WEIGHTS, *_RARER_WEIGHTS)) for name in present):
        lacking = [*lacking, "weights"]
    if tokenizer and not holds_tokenizer(present):
        lacking.append("a tokenizer")
    more = f" and {len(lacking) - 2} more" if len(lacking) > 2 else ""
    return f"has {model_id} without {', '.join(lacking[:2])}{more}" if lacking else ""


def holds_tokenizer(names: Iterable[str]) -> bool:
    """Whether a tokenizer may be read from one of these files."""
    return any(part in name for name in names for part in _TOKENIZER)


def remember(model_id: str, hub_cache: Path, revision: str, commit: str) -> None:
    """Note which commit a branch or tag stands for, as the hub's client does when it is asked by that name: the engine
    will ask it by the commit, and without this note nobody would find the copy when the hub does not answer.
    """
    if revision == commit:
        return
    note = home_of(model_id, hub_cache) / "refs" / revision
    with suppress(OSError):  # a cache that cannot be written is somebody else's finding
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh = note.with_name(f"{note.name}.{os.getpid()}.incomplete")
        fresh.write_text(commit)
        fresh.replace(note)


def commit_of(snapshot: Path) -> str | None:
    """The commit that a snapshot's folder is called after."""
    return snapshot.name if _COMMIT.fullmatch(snapshot.name) else None


def fetch_command(model_id: str, hub_cache: Path, revision: str = "main") -> str:
    """What puts the model into that cache, with the hub's own client."""
    which = "" if revision == "main" else f" --revision {revision}"
    place = f"HF_HOME={hub_cache.parent}" if hub_cache.name == "hub" else f"HF_HUB_CACHE={hub_cache}"
    return f"{place} hf download {model_id}{which}"


def _snapshot(home: Path, revision: str) -> Path | None:
    """The folder that a revision's name (refs/main) or the revision itself stands for, where it is there."""
    try:
        commit = (home / "refs" / revision).read_text().strip()
    except (OSError, UnicodeDecodeError, ValueError):
        commit = revision
    folder = home / "snapshots" / commit
    return folder if commit and os.path.isdir(folder) else None  # noqa: PTH112 - says no where Path.is_dir raises


def _is_whole(folder: Path) -> bool:
    """A config, and every file of weights that the index names, or some where there is no index."""
    try:
        present = {path.name for path in folder.iterdir() if path.exists()}
    except OSError:
        return False
    some = any(name.endswith(_WEIGHTS) for name in present)
    return "config.json" in present and some and not _missing_shards(folder, present)


def _missing_shards(folder: Path, present: set[str]) -> list[str]:
    """The files that the index of the weights names and that are not there; the index itself where it is damaged."""
    index = folder / "model.safetensors.index.json"
    if index.name not in present:
        return []
    try:
        return sorted(set(json.loads(index.read_bytes())["weight_map"].values()) - present)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [index.name]
