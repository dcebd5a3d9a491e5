"""One file of `recipes/` in, one frozen `Recipe` out: how a model is served on one kind of GPU, in one precision.

Two forms load into the same value: the nested one (`vllm_serve: {4_gpu: {args, env}}`) and the flat one
(`hardware.gpu_count`, `backend`, `config`). Knows nothing of which recipe is better, nor of any engine's options.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import ValidationError, core_schema

from aim_engine.catalog import schema
from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.forbidden import check_inner_key, check_name, check_text
from aim_engine.catalog.recipe_checks import contradictions, optional_names
from aim_engine.catalog.yaml_file import Problem, YamlError, read_yaml, schema_problems
from aim_engine.values import EVIDENCE_LEVELS, METRICS, PRECISIONS, is_hub_id

ANY_MODEL = "*"

ArgumentValue = bool | int | float | str | list[Any] | dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run a recipe: a backend on `gpu_count` GPUs of one replica. `args` are the backend's own long option
    names without dashes; `metric` is None where the variant serves latency and throughput alike; `optional` names the
    args and variables that may be left out where the installed engine knows nothing of the kind.
    """

    backend: str
    gpu_count: int
    enabled: bool
    metric: str | None
    args: Mapping[str, ArgumentValue]
    env: Mapping[str, str]
    evidence: Evidence
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A loaded recipe. `model_id` is what a user asks for ("*" for a family that serves any model), `huggingface_id`
    the checkpoint that is served, `file` where it was read, `order` its folder's place in the search (0 first). A
    `generated` one was made from the model's own numbers, and stands in no file.
    """

    recipe_id: str
    model_id: str
    huggingface_id: str
    precision: str
    gpu_type: str
    variants: tuple[Variant, ...]
    evidence: Evidence = field(default_factory=Evidence)
    description: str = ""
    file: str = ""
    order: int = 0
    generated: bool = False

    @property
    def is_family(self) -> bool:
        """True for a recipe that serves any model, rather than one."""
        return self.model_id == ANY_MODEL


def _id(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", value):
        raise ValueError("must be of lower-case letters, digits, '.', '_' and '-'")
    return value


def _model_id(value: str) -> str:
    check_text(value)
    if value != ANY_MODEL and not is_hub_id(value):
        raise ValueError('must be a Hugging Face id such as Qwen/Qwen3-32B, or "*" for a family')
    return value


def _backend_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+", name):
        raise ValueError("must be an engine's name in lower-case letters and digits, before _serve")
    return name


def _date(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        value = value.date()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.date.fromisoformat(value)
        except ValueError:
            raise ValueError("must be a date such as 2026-11-21") from None
    return value


def _prose(value: Any) -> Any:
    return check_text(value) if isinstance(value, str) else value


def _env_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("must be the name of an environment variable")
    return check_name(name)


def _env_value(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError('must be text; write numbers and switches in quotes, as "1"')
    if "\x00" in value:
        raise ValueError("must not hold a NUL character")
    return check_text(value)


def _argument(value: Any) -> Any:
    """Only what a command line can carry: as text, or as JSON."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("must have words for keys")
        for key, one in value.items():
            check_inner_key(key)
            _argument(one)
    elif isinstance(value, list):
        for one in value:
            _argument(one)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError("must be text, a number, true or false, a list or a map")
    elif isinstance(value, str):
        if "\x00" in value:
            raise ValueError("must not hold a NUL character")
        check_text(value)
        _check_json(value)
    return value


def _check_json(text: str) -> None:
    """A map that is written as text is passed on as it is; what may not be in a map may not be there either."""
    if not text.lstrip().startswith("{"):
        return
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return  # the engine's parser says so
    _argument(inner)


def _arguments(args: dict[str, Any]) -> dict[str, Any]:
    renamed = {name.replace("_", "-"): value for name, value in args.items()}
    if len(renamed) != len(args):
        raise ValueError("has one option twice, with dashes and with underscores")
    for name in renamed:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9.-]*", name):
            raise ValueError(f"has {name!r}, which is not an option's long name without dashes in front")
    return renamed


_ARGUMENT = schema.prepared(_argument, core_schema.any_schema())
_ARGS = schema.checked(schema.mapping(schema.text, _ARGUMENT), _arguments)
_ENV = schema.mapping(schema.checked(schema.text, _env_name), schema.prepared(_env_value, schema.text))
_OPTIONAL = schema.listing(schema.word)

_PROSE = schema.prepared(_prose, schema.text)

_EVIDENCE = schema.record(
    {"level": schema.one_of(*EVIDENCE_LEVELS)},
    {"source": _PROSE, "engine": _PROSE, "date": schema.prepared(_date, schema.text)},
)
_HARDWARE = schema.record(
    {"gpu_type": schema.word},
    # memory_requirement is the flat form's; the memory ledger decides, it is only kept legal
    {"gpu_count": schema.whole(1, 64), "memory_requirement": schema.text},
)
_VARIANT = schema.record(
    {},
    {
        "enabled": schema.flag,
        "metric": schema.one_of(*METRICS),
        "args": _ARGS,
        "env": _ENV,
        "optional": _OPTIONAL,
        "evidence": _EVIDENCE,
    },
)
RECIPE = schema.record(
    {
        "recipe_id": schema.checked(schema.text, _id),
        "model_id": schema.checked(schema.word, _model_id),
        "precision": schema.one_of(*PRECISIONS),
        "hardware": _HARDWARE,
    },
    {
        "huggingface_id": schema.checked(schema.word, _model_id),
        "description": _PROSE,
        "evidence": _EVIDENCE,
        "serve": schema.mapping(schema.checked(schema.text, _backend_name), schema.mapping(schema.text, _VARIANT)),
        "backend": schema.word,  # this and the three below: the flat form
        "config": _ARGS,
        "env": _ENV,
        "optional": _OPTIONAL,
    },
)
_VALIDATOR = schema.validator(RECIPE)

_LEGAL_KEYS = {
    (): sorted({*schema.keys_of(RECIPE), "vllm_serve", "sglang_serve"} - {"serve"}),
    ("hardware",): schema.keys_of(_HARDWARE),
    ("evidence",): schema.keys_of(_EVIDENCE),
    ("serve", "*", "*"): schema.keys_of(_VARIANT),
    ("serve", "*", "*", "evidence"): schema.keys_of(_EVIDENCE),
}


def read_recipe(path: Path, *, order: int = 0) -> tuple[Recipe | None, list[Problem]]:
    """One recipe, or every problem found in its file."""
    try:
        raw = read_yaml(path)
    except YamlError as error:
        return None, [error.problem]
    shown_id = f"recipe {raw['recipe_id']}" if isinstance(raw.get("recipe_id"), str) else ""
    try:
        parsed = _VALIDATOR.validate_python(_gather_backends(raw))
    except ValidationError as error:
        found = schema_problems(error, path=path, item=shown_id, legal_keys=_LEGAL_KEYS)
        return None, [_original_place(problem) for problem in found]
    problems = [
        Problem(file=str(path), item=shown_id, key=key, sentence=text, kind="".join(kind) or "schema")
        for key, text, *kind in contradictions(parsed)
    ]
    if problems:
        return None, problems
    return _recipe(parsed, path, order), []


def _gather_backends(raw: dict[str, Any]) -> dict[str, Any]:
    """`vllm_serve` and its like under one key: the backends are a plug-in table, so their names are open."""
    gathered = {key: value for key, value in raw.items() if not key.endswith("_serve") and key != "serve"}
    serve = {key.removesuffix("_serve"): value for key, value in raw.items() if key.endswith("_serve")}
    if "serve" in raw:
        gathered["serve_"] = raw["serve"]  # not a key of the file: let it be refused under a name of its own
    return {**gathered, **({"serve": serve} if serve else {})}


def _original_place(problem: Problem) -> Problem:
    """Undo `_gather_backends` in a problem's key: serve.vllm.4_gpu was written vllm_serve.4_gpu."""
    parts = problem.key.split(".")
    if parts[0] == "serve_":
        parts[0] = "serve"
    elif parts[0] == "serve" and len(parts) > 1:
        parts = [f"{parts[1]}_serve", *parts[2:]]
    return Problem(file=problem.file, item=problem.item, key=".".join(p for p in parts if p != "[key]"),
                   sentence=problem.sentence, nearest=problem.nearest, kind=problem.kind)  # fmt: skip


def _recipe(parsed: dict[str, Any], path: Path, order: int) -> Recipe:
    evidence = Evidence(**parsed["evidence"]) if "evidence" in parsed else Evidence(source="no evidence is given")
    return Recipe(
        recipe_id=parsed["recipe_id"],
        model_id=parsed["model_id"],
        huggingface_id=parsed.get("huggingface_id", parsed["model_id"]),
        precision=parsed["precision"],
        gpu_type=parsed["hardware"]["gpu_type"],
        variants=tuple(_variants(parsed, evidence)),
        evidence=evidence,
        description=parsed.get("description", ""),
        file=str(path),
        order=order,
    )


def _variants(parsed: dict[str, Any], evidence: Evidence) -> list[Variant]:
    if "serve" not in parsed:
        flat = {"args": parsed["config"], "env": parsed.get("env", {}), "optional": parsed.get("optional", [])}
        return [_variant(parsed.get("backend", "vllm"), parsed["hardware"]["gpu_count"], flat, evidence)]
    return [
        _variant(backend, count, counts[f"{count}_gpu"], evidence)
        for backend, counts in sorted(parsed["serve"].items())
        for count in sorted(int(key.removesuffix("_gpu")) for key in counts)
    ]


def _variant(backend: str, gpu_count: int, written: dict[str, Any], evidence: Evidence) -> Variant:
    return Variant(
        backend=backend,
        gpu_count=gpu_count,
        enabled=written.get("enabled", True),
        metric=written.get("metric"),
        args=written.get("args", {}),
        env=written.get("env", {}),
        evidence=Evidence(**written["evidence"]) if "evidence" in written else evidence,
        optional=tuple(optional_names(written)),
    )
