"""One file of `recipes/` in, one frozen `Recipe` out: how a model is served on one kind of GPU, in one precision.

Two forms load into the same value: the nested one (`vllm_serve: {4_gpu: {args, env}}`) and the flat one
(`hardware.gpu_count`, `backend`, `config`). Knows nothing of which recipe is better, nor of any engine's options.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from aim_engine.catalog.yaml_file import Problem, YamlProblem, read_yaml, schema_problems

EVIDENCE_LEVELS = ("derived", "reported", "parsed", "served", "measured")
ANY_MODEL = "*"

# Variables that are somebody else's to set: visibility is the user's, the loader's are an attack surface, and a
# secret must never stand in a file that is printed.
_FORBIDDEN_ENV = re.compile(
    r"(HIP|CUDA|ROCR)_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|LD_(PRELOAD|AUDIT|LIBRARY_PATH)|PYTHON(PATH|STARTUP|HOME)"
    r"|PATH|.*(TOKEN|SECRET|PASSWORD|API_KEY)|AIM_.*"
)
_COUNT_KEY = re.compile(r"([1-9]\d?)_gpu")

ArgumentValue = bool | int | float | str | list[Any] | dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Why anybody should believe a recipe. `level` is one of EVIDENCE_LEVELS, weakest first: derived (computed here),
    reported (a cited public source says so), parsed (the installed engine accepts the arguments), served (started
    and answered on that GPU), measured (benchmarked there).
    """

    level: str = "derived"
    source: str = ""
    engine: str = ""
    date: str = ""

    @property
    def rank(self) -> int:
        return EVIDENCE_LEVELS.index(self.level)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run a recipe: a backend on `gpu_count` GPUs of one replica. `args` are the backend's own long option
    names without dashes; `metric` is None where the variant serves latency and throughput alike.
    """

    backend: str
    gpu_count: int
    enabled: bool
    metric: str | None
    args: Mapping[str, ArgumentValue]
    env: Mapping[str, str]
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A loaded recipe. `model_id` is what a user asks for ("*" for a family that serves any model), `huggingface_id`
    the checkpoint that is served, `file` where it was read, `order` its folder's place in the search (0 first).
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

    @property
    def is_family(self) -> bool:
        """True for a recipe that serves any model, rather than one."""
        return self.model_id == ANY_MODEL


def _id(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", value):
        raise ValueError("must be of lower-case letters, digits, '.', '_' and '-'")
    return value


def _date(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value


def _env_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("must be the name of an environment variable")
    if _FORBIDDEN_ENV.fullmatch(name):
        raise ValueError("is not for a recipe to set")
    return name


def _env_value(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError('must be text; write numbers and switches in quotes, as "1"')
    return value


def _arguments(args: dict[str, Any]) -> dict[str, Any]:
    renamed = {name.replace("_", "-"): value for name, value in args.items()}
    if len(renamed) != len(args):
        raise ValueError("has one option twice, with dashes and with underscores")
    for name in renamed:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9.-]*", name):
            raise ValueError(f"has {name!r}, which is not an option's long name without dashes in front")
    return renamed


_Strict = ConfigDict(extra="forbid", strict=True)
_Text = Annotated[str, Field(min_length=1)]
_Precision = Literal["fp4", "fp8", "int4", "int8", "bf16", "fp16"]
_Metric = Literal["latency", "throughput"]
_Args = Annotated[dict[str, ArgumentValue], AfterValidator(_arguments)]
_Env = dict[Annotated[str, AfterValidator(_env_name)], Annotated[str, BeforeValidator(_env_value)]]


class _EvidenceFile(BaseModel):
    model_config = _Strict
    level: Literal["derived", "reported", "parsed", "served", "measured"]
    source: str = ""
    engine: str = ""
    date: Annotated[str, BeforeValidator(_date)] = ""


class _Hardware(BaseModel):
    model_config = _Strict
    gpu_type: _Text
    gpu_count: Annotated[int, Field(ge=1, le=64)] | None = None
    memory_requirement: str | None = None  # the flat form's; the memory ledger decides, this is only kept legal


class _VariantFile(BaseModel):
    model_config = _Strict
    enabled: bool = True
    metric: _Metric | None = None
    args: _Args = {}
    env: _Env = {}
    evidence: _EvidenceFile | None = None


class _RecipeFile(BaseModel):
    model_config = _Strict
    recipe_id: Annotated[str, AfterValidator(_id)]
    model_id: _Text
    huggingface_id: _Text | None = None
    description: str = ""
    precision: _Precision
    hardware: _Hardware
    evidence: _EvidenceFile | None = None
    serve: dict[str, dict[str, _VariantFile]] = {}
    # the flat form
    backend: _Text | None = None
    config: _Args | None = None
    env: _Env = {}


_LEGAL_KEYS: dict[tuple[str, ...], Any] = {
    (): {*_RecipeFile.model_fields, "vllm_serve", "sglang_serve"} - {"serve"},
    ("hardware",): _Hardware.model_fields,
    ("evidence",): _EvidenceFile.model_fields,
    ("*", "*"): _VariantFile.model_fields,
    ("*", "*", "evidence"): _EvidenceFile.model_fields,
}


def read_recipe(path: Path, *, order: int = 0) -> tuple[Recipe | None, list[Problem]]:
    """One recipe, or every problem found in its file."""
    try:
        raw = read_yaml(path)
    except YamlProblem as error:
        return None, [error.problem]
    shown_id = f"recipe {raw['recipe_id']}" if isinstance(raw.get("recipe_id"), str) else ""
    try:
        parsed = _RecipeFile.model_validate(_gather_backends(raw))
    except ValidationError as error:
        return None, [_original_place(p) for p in schema_problems(error, path=path, item=shown_id, legal_keys=_LEGAL)]
    problems = [Problem(file=str(path), item=shown_id, key=key, sentence=text) for key, text in _contradictions(parsed)]
    if problems:
        return None, problems
    return _recipe(parsed, path, order), []


_LEGAL = {(("serve", *place) if place[:1] == ("*",) else place): keys for place, keys in _LEGAL_KEYS.items()}


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
                   sentence=problem.sentence, nearest=problem.nearest)  # fmt: skip


def _contradictions(parsed: _RecipeFile) -> list[tuple[str, str]]:
    """What each key alone cannot tell: (key, sentence) pairs."""
    found: list[tuple[str, str]] = []
    flat = parsed.config is not None or parsed.backend is not None or parsed.hardware.gpu_count is not None
    if flat and parsed.serve:
        found.append(("config", "the flat form (backend, config) and the *_serve form cannot be mixed in one file"))
    if not flat and not parsed.serve:
        found.append(("vllm_serve", "is missing: a recipe needs vllm_serve (or another backend's), or backend + config"))
    if flat and not parsed.serve:
        found += [
            (key, "is missing: the flat form needs it")
            for key, value in (("hardware.gpu_count", parsed.hardware.gpu_count), ("config", parsed.config))
            if value is None
        ]
    if parsed.serve and parsed.env:
        found.append(("env", "belongs under a GPU count in this form, for instance vllm_serve.1_gpu.env"))
    for backend, counts in parsed.serve.items():
        if not counts:
            found.append((f"{backend}_serve", "is empty; it needs at least one GPU count such as 1_gpu"))
        found += [
            (f"{backend}_serve.{key}", "must be a GPU count such as 1_gpu or 8_gpu")
            for key in counts
            if not _COUNT_KEY.fullmatch(key)
        ]
    return found


def _recipe(parsed: _RecipeFile, path: Path, order: int) -> Recipe:
    evidence = _evidence(parsed.evidence) or Evidence(source="no evidence is given")
    return Recipe(
        recipe_id=parsed.recipe_id,
        model_id=parsed.model_id,
        huggingface_id=parsed.huggingface_id or parsed.model_id,
        precision=parsed.precision,
        gpu_type=parsed.hardware.gpu_type,
        variants=tuple(_nested_variants(parsed, evidence) if parsed.serve else [_flat_variant(parsed, evidence)]),
        evidence=evidence,
        description=parsed.description,
        file=str(path),
        order=order,
    )


def _nested_variants(parsed: _RecipeFile, evidence: Evidence) -> list[Variant]:
    return [
        Variant(
            backend=backend,
            gpu_count=int(key.removesuffix("_gpu")),
            enabled=variant.enabled,
            metric=variant.metric,
            args=variant.args,
            env=variant.env,
            evidence=_evidence(variant.evidence) or evidence,
        )
        for backend, counts in sorted(parsed.serve.items())
        for key, variant in sorted(counts.items(), key=lambda item: int(item[0].removesuffix("_gpu")))
    ]


def _flat_variant(parsed: _RecipeFile, evidence: Evidence) -> Variant:
    return Variant(
        backend=parsed.backend or "vllm",
        gpu_count=parsed.hardware.gpu_count or 1,
        enabled=True,
        metric=None,
        args=parsed.config or {},
        env=parsed.env,
        evidence=evidence,
    )


def _evidence(parsed: _EvidenceFile | None) -> Evidence | None:
    if parsed is None:
        return None
    return Evidence(level=parsed.level, source=parsed.source, engine=parsed.engine, date=parsed.date)
