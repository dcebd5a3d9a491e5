"""One file of `models/` in, one frozen `ModelCard` out: what a model is, and the numbers its memory follows from.

A card without numbers (name, description, license) is legal: then nothing about memory can be said. Knows no recipe
and no GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import ValidationError, core_schema

from aim_engine.catalog import schema
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.config_numbers import MOST
from aim_engine.catalog.model_shape import MOST_LAYERS, architecture
from aim_engine.catalog.quantization import METHODS
from aim_engine.catalog.reckoned_weights import Reckoned, known_weights, reckoned_weights
from aim_engine.catalog.tied_tables import is_tied
from aim_engine.catalog.weights import WeightPart
from aim_engine.catalog.yaml_file import Problem, YamlError, read_yaml, schema_problems
from aim_engine.values import PRECISIONS, is_hub_id

BITS = {"fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4}


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a model. `precision` is what its own checkpoint holds, or is served in; `weights_bytes`
    maps a precision to the bytes of that checkpoint's tensors; `weights_basis` is "exact" (read from the tensors'
    headers) or "computed". `quantization` is the word of the checkpoint's format ("nvfp4", "awq", ...), empty for one
    in 16 bits and where nobody has said; `cache` the precision it wants its KV cache kept in, if it names one. `doubts`
    are sentences on what an engine may stumble over, `notes` merely explain. `weight_parts` tell how the tensors of its
    own checkpoint are divided among GPUs, where their headers were read; `tied` that embedding and head are one table.
    `checkpoints` are the hub's ids of the same model in other precisions.
    """

    model_id: str
    name: str = ""
    description: str = ""
    license: str = ""
    url: str = ""
    family: str = ""
    precision: str | None = None
    architecture: Architecture | None = None
    weights_bytes: Mapping[str, int] = field(default_factory=dict)
    weights_basis: str = "computed"
    quantization: str = ""
    cache: str = ""
    source: str = ""
    file: str = ""
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    weight_parts: tuple[WeightPart, ...] = ()
    tied: bool = False
    checkpoints: Mapping[str, str] = field(default_factory=dict)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that there is a checkpoint of: its own, then the others, most bits first."""
        named = sorted(self.checkpoints, key=lambda one: (-BITS[one], one))
        return (*((self.precision,) if self.precision else ()), *(one for one in named if one != self.precision))

    def checkpoint_in(self, precision: str | None) -> str | None:
        """The hub's id of the checkpoint in that precision, where it is another than the model's own."""
        return self.checkpoints.get(precision or "")

    def weights_in(self, precision: str) -> Reckoned | None:
        """The weights in that precision; None where nothing is known. One whose checkpoint nobody has counted is
        reckoned from one that somebody has.
        """
        known = self.weights_bytes.get(precision)
        if known is not None:
            return known_weights(known, self.weights_basis)
        if not self.weights_bytes:
            return None
        return reckoned_weights(self.weights_bytes, precision, basis=self.weights_basis, shape=self.architecture,
                                tied=self.tied)  # fmt: skip


def _hub_id(text: str) -> str:
    if not is_hub_id(text):
        raise ValueError("must be a Hugging Face id, org/name")
    return text


_PRECISION = schema.one_of(*PRECISIONS)
_SIZES = ("layers", "hidden_size", "attention_heads", "kv_heads", "head_dim", "vocab_size", "intermediate_size",
          "max_context")  # fmt: skip
_DIMENSIONS = schema.record(
    dict.fromkeys(_SIZES, schema.whole(1, MOST)) | {"layers": schema.whole(1, MOST_LAYERS)},
    {name: schema.whole(0, MOST) for name in ("experts", "kv_lora_rank", "qk_rope_head_dim", "expert_width")},
)
_TEXTS = ("name", "description", "size", "architecture", "license", "huggingface_url", "source")
CARD = schema.record(
    {"model_id": schema.word},
    dict.fromkeys(_TEXTS, schema.text)
    | {
        "dimensions": _DIMENSIONS,
        "config": schema.mapping(schema.word, core_schema.any_schema()),
        "precision": _PRECISION,
        "quantization": schema.one_of(*METHODS),
        "weights_bytes": schema.mapping(_PRECISION, schema.whole(1)),
        "weights_basis": schema.one_of("exact", "computed"),
        "checkpoints": schema.mapping(_PRECISION, schema.checked(schema.word, _hub_id)),
    },
)
_VALIDATOR = schema.validator(CARD)
_LEGAL_KEYS = {(): schema.keys_of(CARD), ("dimensions",): schema.keys_of(_DIMENSIONS)}


def read_model_card(path: Path) -> tuple[ModelCard | None, list[Problem]]:
    """One model card, or every problem found in its file."""
    try:
        raw = read_yaml(path)
    except YamlError as error:
        return None, [error.problem]
    shown_id = f"model {raw['model_id']}" if isinstance(raw.get("model_id"), str) else ""
    try:
        parsed = _VALIDATOR.validate_python(raw)
    except ValidationError as error:
        return None, schema_problems(error, path=path, item=shown_id, legal_keys=_LEGAL_KEYS)
    shape = _shape(parsed)
    if "config" in parsed and shape is None:
        sentence = "must hold the sizes of the model's config.json (num_hidden_layers, hidden_size, ...)"
        return None, [Problem(file=str(path), item=shown_id, key="config", sentence=sentence)]
    return ModelCard(
        model_id=parsed["model_id"],
        name=parsed.get("name") or parsed["model_id"],
        description=parsed.get("description", ""),
        license=parsed.get("license", ""),
        url=parsed.get("huggingface_url", ""),
        family=parsed.get("architecture", ""),
        precision=parsed.get("precision"),
        architecture=shape,
        weights_bytes=parsed.get("weights_bytes", {}),
        weights_basis=parsed.get("weights_basis", "computed"),
        quantization=parsed.get("quantization", ""),
        source=parsed.get("source", ""),
        file=str(path),
        tied=is_tied({}, parsed.get("config", {})),
        checkpoints=parsed.get("checkpoints", {}),
    ), []


def _shape(parsed: Mapping[str, Any]) -> Architecture | None:
    """From the `dimensions`, or as a checkpoint's would be from what its config.json says (`config`)."""
    if "config" in parsed:
        return architecture(parsed["config"])
    dimensions = parsed.get("dimensions")
    return Architecture(**dimensions) if dimensions else None
