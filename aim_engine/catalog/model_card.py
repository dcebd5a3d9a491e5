"""One file of `models/` in, one frozen `ModelCard` out: what a model is, and the numbers its memory follows from.

A card without numbers (name, description, license) is legal: then nothing about memory can be said. Knows no recipe
and no GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aim_engine.catalog.yaml_file import Problem, YamlProblem, read_yaml, schema_problems


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a transformer's text tower, in elements (not bytes). `kv_lora_rank` + `qk_rope_head_dim` are set
    for multi-head latent attention, whose cache is one shared vector a token; `experts` is 0 for a dense model.
    """

    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    intermediate_size: int
    max_context: int
    experts: int = 0
    kv_lora_rank: int = 0
    qk_rope_head_dim: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a model. `precision` is what its own checkpoint holds; `weights_bytes` maps a precision to the
    bytes of that checkpoint's tensors; `weights_basis` is "exact" (read from the tensors' headers) or "computed".
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
    source: str = ""
    file: str = ""


_Strict = ConfigDict(extra="forbid", strict=True)
_Positive = Annotated[int, Field(ge=1)]
_Natural = Annotated[int, Field(ge=0)]


class _ArchitectureFile(BaseModel):
    model_config = _Strict
    layers: _Positive
    hidden_size: _Positive
    attention_heads: _Positive
    kv_heads: _Positive
    head_dim: _Positive
    vocab_size: _Positive
    intermediate_size: _Positive
    max_context: _Positive
    experts: _Natural = 0
    kv_lora_rank: _Natural = 0
    qk_rope_head_dim: _Natural = 0


class _CardFile(BaseModel):
    model_config = _Strict
    model_id: Annotated[str, Field(min_length=1)]
    name: str = ""
    description: str = ""
    size: str = ""
    architecture: str = ""
    dimensions: _ArchitectureFile | None = None
    license: str = ""
    huggingface_url: str = ""
    precision: Literal["fp4", "fp8", "int4", "int8", "bf16", "fp16"] | None = None
    weights_bytes: dict[Literal["fp4", "fp8", "int4", "int8", "bf16", "fp16"], _Positive] = {}
    weights_basis: Literal["exact", "computed"] = "computed"
    source: str = ""


_LEGAL_KEYS = {(): _CardFile.model_fields, ("dimensions",): _ArchitectureFile.model_fields}


def read_model_card(path: Path) -> tuple[ModelCard | None, list[Problem]]:
    """One model card, or every problem found in its file."""
    try:
        raw = read_yaml(path)
    except YamlProblem as error:
        return None, [error.problem]
    shown_id = f"model {raw['model_id']}" if isinstance(raw.get("model_id"), str) else ""
    try:
        parsed = _CardFile.model_validate(raw)
    except ValidationError as error:
        return None, schema_problems(error, path=path, item=shown_id, legal_keys=_LEGAL_KEYS)
    return ModelCard(
        model_id=parsed.model_id,
        name=parsed.name or parsed.model_id,
        description=parsed.description,
        license=parsed.license,
        url=parsed.huggingface_url,
        family=parsed.architecture,
        precision=parsed.precision,
        architecture=Architecture(**parsed.dimensions.model_dump()) if parsed.dimensions else None,
        weights_bytes=dict(parsed.weights_bytes),
        weights_basis=parsed.weights_basis,
        source=parsed.source,
        file=str(path),
    ), []
