"""A model's config.json in, its card (one file of `models/`) out as YAML: see scripts/model-card.

Shapes are read as the engine's hub reader reads them; bytes are counted over every tensor of the model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from wherever

from aim_engine.catalog.cache_families import guess_at
from aim_engine.catalog.config_numbers import text_part
from aim_engine.catalog.json_schema import MODELINES
from aim_engine.catalog.model_shape import architecture
from scripts.model_tensors import UnknownModelError, Weight, draft_weights, stored_bytes, weights_of

_STORED = {"fp8": "fp8", "mxfp4": "fp4"}
_COUNTED = ("bf16", "fp16", "fp8")
_FIRST_KEYS = ("model_id", "name", "description", "size", "architecture", "license", "huggingface_url", "precision")
_OPTIONAL_SIZES = ("experts", "kv_lora_rank", "qk_rope_head_dim", "expert_width")


def precision_of(config: Mapping[str, Any]) -> str:
    """The precision of the checkpoint that the config describes.

    Raises:
        UnknownModelError: its format has no name here.
    """
    said = config.get("quantization_config")
    if not said:
        text = text_part(config)
        dtype = config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
        return "fp16" if dtype == "float16" else "bf16"
    if said.get("quant_method") not in _STORED:
        raise UnknownModelError(f"no rule is known for weights in the format {said.get('quant_method')}")
    return _STORED[said["quant_method"]]


def dimensions_of(config: Mapping[str, Any]) -> dict[str, int]:
    """The card's `dimensions`; empty where they would not say enough, or a number is missing."""
    shape = architecture(text_part(config))
    if shape is None or not _every_layer_keeps_the_same(config):
        return {}
    found = {name: number for name, number in asdict(shape).items() if name not in ("caches", "guess")}
    return {name: found[name] for name in found if found[name] or name not in _OPTIONAL_SIZES}


def _every_layer_keeps_the_same(config: Mapping[str, Any]) -> bool:
    """Whether `dimensions` say all that a cache's size follows from: the family is known, and no layer looks at a
    window or a chunk, keeps a state instead of a cache, or an index beside it.
    """
    text = text_part(config)
    shape = architecture(text)
    return guess_at(text, 0) is None and (shape is None or set(shape.layer_caches) == {(shape.main_cache,)})


def config_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The card's `config`, where dimensions would not say enough: what of config.json the shape follows from, and no
    more. Empty where the family is not known, or a number is missing.
    """
    text = dict(text_part(config))
    shape = architecture(text)
    if shape is None or shape.guess or dimensions_of(config):
        return {}
    for name in sorted(text, key=lambda one: -len(json.dumps(text[one]))):  # the longest go first
        without = {key: value for key, value in text.items() if key != name}
        if name != "model_type" and architecture(without) == shape:
            text = without
    return text


def card_of(config: Mapping[str, Any], weights: Sequence[Weight], precisions: Sequence[str]) -> dict[str, Any]:
    """The keys of the card that follow from the config."""
    own = precision_of(config)
    wanted = dict.fromkeys((own, *precisions))
    card: dict[str, Any] = {"size": _in_billions(sum(weight.elements for weight in weights))}
    card |= {"architecture": (config.get("architectures") or [""])[0], "precision": own}
    if dimensions := dimensions_of(config):
        card["dimensions"] = dimensions
    if said := config_of(config):
        card["config"] = said
    return card | {"weights_bytes": {name: stored_bytes(weights, name, config) for name in wanted}}


def yaml_of(
    words: Mapping[str, str],
    card: Mapping[str, Any],
    notes: Sequence[str],
    checkpoints: Mapping[str, str] | None = None,
) -> str:
    """The file: what people read, the numbers, how the bytes came about, where the config was read."""
    said = {**words, **card}
    lines = [MODELINES["model"], *(f"{key}: {_as_yaml(said[key])}" for key in _FIRST_KEYS if said.get(key))]
    if "dimensions" in card:
        lines += ["dimensions:", *(f"  {name}: {number}" for name, number in card["dimensions"].items())]
    if "config" in card:
        lines += ["config:", *(f"  {name}: {json.dumps(value)}" for name, value in card["config"].items())]
    lines += [f"# {note}" for note in notes]
    pairs = ", ".join(f"{name}: {number}" for name, number in card["weights_bytes"].items())
    lines += [f"weights_bytes: {{{pairs}}}"]
    if checkpoints:
        lines += ["checkpoints: {" + ", ".join(f"{name}: {one}" for name, one in sorted(checkpoints.items())) + "}"]
    lines += ["weights_basis: computed", f"source: {_as_yaml(words['source'])}"]
    return "\n".join(lines) + "\n"


def notes_on(config: Mapping[str, Any], weights: Sequence[Weight], precisions: Sequence[str]) -> list[str]:
    """How the bytes came about, a sentence each."""
    elements = sum(weight.elements for weight in weights)
    notes = [f"{elements:,} elements, counted over the tensors of {(config.get('architectures') or [''])[0]}."]
    if "fp8" in precisions:
        notes.append("fp8: matrix weights in one byte, a scale for each 128 x 128 block; the rest in two bytes.")
    if "fp4" in precisions:
        notes.append("fp4 (mxfp4): the experts' matrices in half a byte, a byte of scale for each 32 weights; the rest "
                     "in two bytes.")  # fmt: skip
    if drafts := draft_weights(config, weights):
        number = sum(weight.elements for weight in drafts)
        notes.append(f"Without the layer for drafting, which an engine does not load: {number:,} more elements.")
    if config_of(config):
        notes.append("Which layers attend to a window, keep a state or an index follows from the config's words.")
    elif not dimensions_of(config):
        notes.append("No dimensions: the config, as it was read, lacks one of their numbers.")
    return notes


def make(
    config: Mapping[str, Any], model_id: str, *, precisions: Sequence[str] = (), source: str = "", name: str = "",
    description: str = "", license_id: str = "", checkpoints: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """The whole card as YAML.

    Raises:
        UnknownModelError: the model, or the format of its weights, is not known here.
    """
    weights = weights_of(config)
    words = {"model_id": model_id, "name": name or model_id.partition("/")[2].replace("-", " "),
             "description": description, "license": license_id,
             "huggingface_url": f"https://huggingface.co/{model_id}",
             "source": source or f"config.json of {model_id}; bytes computed from its shapes"}  # fmt: skip
    card = card_of(config, weights, precisions)
    return yaml_of(words, card, notes_on(config, weights, list(card["weights_bytes"])), checkpoints)


def _as_yaml(words: str) -> str:
    """Words in quotes where they would otherwise mean something else (a JSON text is a YAML text)."""
    try:
        plain = yaml.safe_load(f"word: {words}") == {"word": words}
    except yaml.YAMLError:
        plain = False
    return words if plain else json.dumps(words)


def _in_billions(elements: int) -> str:
    billions = elements / 1e9
    return f"{billions:.2f}B" if billions < 10 else f"{billions:.1f}B"


def _pair(text: str) -> tuple[str, str]:
    precision, _, model_id = text.partition("=")
    if precision not in _COUNTED or "/" not in model_id:
        raise argparse.ArgumentTypeError(f"{text} is not of the form fp8=ORG/NAME")
    return precision, model_id


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/model-card")
    parser.add_argument("config", type=Path, metavar="CONFIG.json")
    parser.add_argument("--model", required=True, metavar="ORG/NAME")
    parser.add_argument("--precision", action="append", default=[], choices=_COUNTED)
    parser.add_argument("--checkpoint", action="append", default=[], metavar="P=ORG/NAME", type=_pair)
    for flag in ("--source", "--name", "--description", "--license"):
        parser.add_argument(flag, default="")
    arguments = parser.parse_args()
    if "/" not in arguments.model:
        parser.error(f"--model {arguments.model} is not of the form ORG/NAME")
    try:
        config = json.loads(arguments.config.read_text())
        checkpoints = dict(arguments.checkpoint)
        text = make(config, arguments.model, precisions=[*arguments.precision, *checkpoints], source=arguments.source,
                    name=arguments.name, description=arguments.description, license_id=arguments.license,
                    checkpoints=checkpoints)  # fmt: skip
    except (OSError, ValueError, UnknownModelError) as error:
        print(f"model-card: {error}", file=sys.stderr)
        return 10
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
