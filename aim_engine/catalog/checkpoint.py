"""What a checkpoint says of itself, wherever it was read: its configs, every tensor's type, shape and bytes, and its
files. Values only: opens nothing, asks nobody, and knows no memory and no recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HUB = "the hub"  # the source of a checkpoint that was read there


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor as its file's header declares it; `dtype` is the format's own word ("BF16", "F8_E4M3")."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint's own words. `source` is HUB or a folder; `revision` the commit it was read at, None for a folder of
    the user's; `kind` the form of its weights ("safetensors", or "bin" for PyTorch's older one). `config` is
    config.json, with the quantisation of hf_quant_config.json where it has none of its own. `tensors` is empty where no
    header tells; `files` are all its files with their bytes (0 where that is not known), `weights` the names of those
    that are loaded. `doubts` are sentences on what an engine may stumble over.
    """

    model_id: str
    source: str
    revision: str | None = None
    kind: str = "safetensors"
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    files: tuple[tuple[str, int], ...] = ()
    weights: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def config_path(self) -> Path:
        """What messages call its config.json."""
        return Path(self.model_id if self.source == HUB else self.source, "config.json")

    @property
    def file_bytes(self) -> int:
        """The bytes of the files that hold the weights, headers included."""
        return sum(size for name, size in self.files if name in self.weights)

    @property
    def brings_code(self) -> bool:
        """Whether it brings Python of its own, which an engine runs only where it is told to."""
        return bool(self.config.get("auto_map"))


def quantization_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that says how the weights are quantised, or nothing."""
    text = config.get("text_config")
    found = config.get("quantization_config") or (isinstance(text, dict) and text.get("quantization_config"))
    return found if isinstance(found, dict) else {}


def with_quantization(config: dict[str, Any], said: Any) -> dict[str, Any]:
    """The config with what hf_quant_config.json says, as ModelOpt's older exports do, where it says nothing itself."""
    if quantization_of(config) or not isinstance(said, dict) or "quantization" not in said:
        return config
    return config | {"quantization_config": said["quantization"]}
