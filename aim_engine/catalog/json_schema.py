"""The schemas of recipes and model cards as JSON Schema, for editors and other tools: a kind in, its file's text out.

Made from the very schemas that read the files (recipe.py, model_card.py); what these check in Python is added here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aim_engine.catalog.forbidden import forbidden_names
from aim_engine.catalog.model_card import CARD
from aim_engine.catalog.recipe import RECIPE

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_HOST = "CPU"  # what a recipe without a GPU is for
FILES = {"recipe": "recipe.schema.json", "model": "model.schema.json"}  # in the folder that holds the organisations'
# An editor takes the path as beginning at the file: <org>/<model>/<recipe id>.yaml, <org>/<model>.yaml.
MODELINES = {
    "recipe": f"# yaml-language-server: $schema=../../{FILES['recipe']}",
    "model": f"# yaml-language-server: $schema=../{FILES['model']}",
}

_EVIDENCE = {
    "level": "How far it was proved: derived (computed here), reported (a cited public source says so), parsed (the "
    "installed engine accepts it), served (it answered on that GPU), measured (benchmarked there).",
    "source": "Why anybody should believe it: the public place where it was read, what it was computed from, or "
    "what was run on which GPUs.",
    "engine": "The engine and version it is for, such as vllm 0.16.",
    "date": "When the source was read or the level reached, as 2026-11-22.",
}
_RECIPE: dict[str, Any] = {
    "recipe_id": "The recipe's id: the file's name without .yaml.",
    "model_id": 'The model that is asked for: the folder\'s name. "*" serves any model.',
    "huggingface_id": "The checkpoint that is served; left out, the model itself.",
    "precision": "What the checkpoint's weights are in.",
    "description": "One sentence for people.",
    "hardware": {
        "": "What it is for.",
        "gpu_type": "A GPU product such as MI300X, or CPU.",
        "gpu_count": "The flat form's number of GPUs.",
        "memory_requirement": "The flat form's; the memory ledger decides, this is not read.",
    },
    "evidence": {"": "Why anybody should believe it; a variant may have its own.", **_EVIDENCE},
    "serve": {
        "": "The engine's variants, by the GPUs of one copy of the model: 1_gpu, 8_gpu.",
        "enabled": "false: never chosen.",
        "metric": "Tuned for this alone; left out, for both.",
        "args": "The engine's long options without dashes. true: a bare flag; false: --no-x; a list: several values; "
        "a map: JSON.",
        "env": "Environment variables of the engine, as texts.",
        "optional": "Names of args and env that are left out, with a warning, where the installed engine lacks them.",
        "evidence": {"": "This variant's own.", **_EVIDENCE},
    },
    "backend": "The flat form's engine; vllm unless said otherwise.",
    "config": "The flat form's options, as args.",
    "env": "The flat form's environment variables.",
    "optional": "The flat form's names of config and env that may be left out, as a variant's.",
}
_CARD: dict[str, Any] = {
    "model_id": "The model's id on the hub: the file's path.",
    "name": "What people call it.",
    "description": "One sentence: what it is.",
    "size": "Its parameters, as 32.8B.",
    "architecture": "The class that config.json names.",
    "license": "The license's id.",
    "huggingface_url": "Its page on the hub.",
    "source": "Where the numbers were read.",
    "dimensions": {
        "": "The shape of the model's text tower, where every layer keeps the same of the tokens.",
        "layers": "num_hidden_layers",
        "hidden_size": "hidden_size",
        "attention_heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "vocab_size": "vocab_size",
        "intermediate_size": "intermediate_size",
        "max_context": "max_position_embeddings",
        "experts": "Experts of a layer; 0 for a dense model.",
        "expert_width": "moe_intermediate_size: an expert's width, where it has one of its own.",
        "kv_lora_rank": "Of latent attention.",
        "qk_rope_head_dim": "Of latent attention.",
    },
    "config": "What of config.json the shape follows from, where dimensions do not say enough.",
    "precision": "What the model's own checkpoint holds.",
    "quantization": "The checkpoint's format, where the precision does not tell it.",
    "weights_bytes": "Bytes of the tensors of a checkpoint, by precision.",
    "weights_basis": "exact (read from the tensors' headers) or computed.",
    "checkpoints": "The same model's checkpoints in other precisions, by precision.",
}


def schema_text(kind: str, products: Sequence[str] = ()) -> str:
    """The file."""
    return json.dumps(json_schema(kind, products), indent=2, ensure_ascii=False) + "\n"


def json_schema(kind: str, products: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON Schema of a kind of file: "recipe" or "model". `products` are the GPUs that a recipe may be for."""
    from pydantic.json_schema import GenerateJsonSchema  # here: it is slow to import, and only this needs it

    made = GenerateJsonSchema().generate({"recipe": RECIPE, "model": CARD}[kind])
    title = {"recipe": "A recipe of AIM Engine", "model": "A model card of AIM Engine"}[kind]
    made = {"$schema": _DRAFT, "title": title, "type": "object", **_without_titles(made)}
    properties = made["properties"]
    _describe(properties, {"recipe": _RECIPE, "model": _CARD}[kind])
    if kind == "recipe":
        if products:
            properties["hardware"]["properties"]["gpu_type"]["enum"] = [*products, _HOST]
        _add_backends(made)
        for options in (properties["config"], _variant(made)["args"]):
            options["propertyNames"] = {"pattern": "^[A-Za-z][A-Za-z0-9._-]*$"}
        for variables in (properties["env"], _variant(made)["env"]):
            names = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "not": {"pattern": f"^({forbidden_names()})$"}}
            variables["propertyNames"] = names
        properties["recipe_id"]["pattern"] = "^[a-z0-9][a-z0-9._-]*$"
    return made


def _without_titles(schema: Any) -> Any:
    """Titles made from the keys say nothing."""
    if isinstance(schema, Mapping):
        return {key: _without_titles(value) for key, value in schema.items()
                if not (key == "title" and isinstance(value, str))}  # fmt: skip
    return [_without_titles(one) for one in schema] if isinstance(schema, list) else schema


def _describe(properties: dict[str, Any], meanings: Mapping[str, Any]) -> None:
    for name, schema in properties.items():
        meaning = meanings.get(name, "")
        if isinstance(meaning, str):
            schema["description"] = meaning
            continue
        schema["description"] = meaning[""]
        _describe(_innermost(schema)["properties"], meaning)


def _innermost(schema: dict[str, Any]) -> dict[str, Any]:
    """The record below maps of free names."""
    while "properties" not in schema:
        schema = schema["additionalProperties"]
    return schema


def _add_backends(made: dict[str, Any]) -> None:
    """`serve` is how the reader gathers vllm_serve, sglang_serve and whatever a plug-in is called (recipe.py)."""
    serve = made["properties"].pop("serve")
    counts = {"type": "object", "description": serve["description"], "minProperties": 1, "additionalProperties": False,
              "patternProperties": {"^[1-9][0-9]?_gpu$": _innermost(serve)}}  # fmt: skip
    made["properties"] |= {"vllm_serve": {"$ref": "#/$defs/serve"}, "sglang_serve": {"$ref": "#/$defs/serve"}}
    made["patternProperties"] = {"^[a-z0-9]+_serve$": {"$ref": "#/$defs/serve"}}
    made["$defs"] = {"serve": counts}
    has_backend = {"not": {"propertyNames": {"not": {"pattern": "_serve$"}}}}
    made["anyOf"] = [has_backend, {"required": ["config"]}]


def _variant(made: dict[str, Any]) -> dict[str, Any]:
    (record,) = made["$defs"]["serve"]["patternProperties"].values()
    properties: dict[str, Any] = record["properties"]
    return properties
