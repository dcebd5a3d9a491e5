"""The names of a checkpoint's files in, those that an engine loads its weights from out. Pure.

The rules are vLLM's (default_loader.py, weight_utils.py of 0.32): files in the checkpoint's own folder only, so that an
original/ below it does not count; safetensors before .bin before .pt; where an index is there, only what it names, so
that a consolidated.safetensors beside model-*.safetensors is not counted twice.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

INDEX = "model.safetensors.index.json"
CONSOLIDATED_INDEX = "consolidated.safetensors.index.json"
# What training leaves beside the weights (weight_utils.filter_files_not_needed_for_inference).
_OF_TRAINING = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """What is loaded: `kind` is "safetensors", "bin", "pt" or "" for nothing; `index` the index that was followed."""

    kind: str
    names: tuple[str, ...] = ()
    index: str = ""


def weight_files(names: Collection[str], indexed: Mapping[str, Collection[str]]) -> WeightFiles:
    """What is loaded of these files; `indexed` holds for each index that is there the files that it names.

    Mistral's own checkpoints come twice, as model-*.safetensors and as consolidated*.safetensors. vLLM loads the second
    form since load_format "auto" looks for it first; the tensors are the same under other names, and it is the first
    form, with the names that everybody uses, that is read here.
    """
    own = sorted(name for name in names if "/" not in name)
    tensors = [name for name in own if name.endswith(".safetensors")]
    others = [name for name in tensors if not name.startswith("consolidated")]
    index = INDEX if others else CONSOLIDATED_INDEX
    if tensors and index in indexed:
        return WeightFiles(kind="safetensors", names=tuple(sorted(set(indexed[index]))), index=index)
    if tensors:
        return WeightFiles(kind="safetensors", names=tuple(others or tensors))
    for kind in ("bin", "pt"):
        found = [name for name in own if name.endswith(f".{kind}") and not name.endswith(_OF_TRAINING)]
        if found:
            return WeightFiles(kind=kind, names=tuple(found))
    return WeightFiles(kind="")


def weight_map(index: bytes) -> dict[str, str]:
    """The file of each tensor, as an index tells it.

    Raises:
        ValueError: it is no index, or names a file elsewhere.
    """
    try:
        said: Any = json.loads(index)["weight_map"]
        pairs = dict(said.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("no index") from None
    if not all(isinstance(name, str) and name and "/" not in name for name in pairs.values()):
        raise ValueError("an index that names a file elsewhere")
    return pairs
