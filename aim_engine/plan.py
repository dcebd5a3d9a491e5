"""The one decision everything else carries out: `make_plan(request, inventory, catalog, engine)` → `Plan` or `Refusal`.

Pure: the same inputs give the same plan on a laptop, on the host and in the container. Starts nothing, reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from aim_engine.backends.base import Backend, Loading, ServerCommand
from aim_engine.backends.registry import backend as find_backend
from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.recipe import Variant
from aim_engine.catalog.terms import ServingTerms
from aim_engine.errors import AimError, InputError
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.job import context_of, job_of, spreader, step_to_more_gpus
from aim_engine.ladder import Rung, rungs
from aim_engine.request import SETTINGS, Request
from aim_engine.selection.candidate import Candidate, Judged, Situation
from aim_engine.selection.changes import Change
from aim_engine.selection.measured import told_of
from aim_engine.selection.memory import Ledger
from aim_engine.selection.remarks import cautions, choices
from aim_engine.selection.select import RULES_CHOSE, Chooser, Selection, select
from aim_engine.selection.served import checkpoint_of
from aim_engine.selection.standing import as_it_stands, standing

# A start reads the weights, compiles and captures graphs. The budget is generous because a start that is killed while
# it makes progress is worse than one that is waited for; a cold torch.compile on AMD has been seen to take 37 minutes.
_START_BASE_SECONDS = 900.0
_START_BYTES_PER_SECOND = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be served, on what, how, and why. `chosen_by` says who chose among what fits; `origins` maps settings,
    engine options and variables to who set them; `checkpoint_bytes` are those of the weights' files, where known;
    `warnings` need a person's attention, `notes` merely explain.
    """

    request: Request
    inventory: Inventory
    winner: Candidate
    judged: tuple[Judged, ...]
    command: ServerCommand
    context_tokens: int | str | None
    engine: Engine | None
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ladder: tuple[Rung, ...] = ()
    chosen_by: str = RULES_CHOSE
    checkpoint_bytes: int | None = None

    @property
    def recipe_id(self) -> str:
        return self.winner.recipe.recipe_id

    @property
    def model(self) -> str:
        return self.request.required_model

    @property
    def checkpoint(self) -> str:
        """The hub id or folder that is served."""
        return checkpoint_of(self.request, self.winner.recipe)

    @property
    def revision(self) -> str | None:
        """The commit, branch or tag of the checkpoint that is served, where it is fixed."""
        argv = self.command.argv
        return argv[argv.index("--revision") + 1] if "--revision" in argv else None

    @property
    def evidence(self) -> Evidence:
        """The chosen variant's, raised by what the engine that is here was seen to accept."""
        return as_it_stands(self.winner.variant.evidence, self.engine)

    @property
    def evidence_counts_as(self) -> str:
        """The level of the evidence, as far as it holds for the engine that is here."""
        return standing(self.evidence, self.engine).level

    @property
    def ledger(self) -> Ledger | None:
        return self.winner.ledger

    @property
    def start_timeout_seconds(self) -> float:
        """What was asked for, or a budget that grows with the bytes to read."""
        if self.request.start_timeout is not None:
            return self.request.start_timeout
        # of several nodes all: they may read from one disk
        held = self.winner.gpu_count * self.winner.nodes
        weights = self.ledger.lines[0].bytes * held if self.ledger else 0
        return _START_BASE_SECONDS + weights // _START_BYTES_PER_SECOND

    @property
    def given_up(self) -> tuple[Rung, ...]:
        """The rungs that an earlier start of the same on this machine had to take: this one begins there."""
        known = self.ledger.measurement if self.ledger else None
        by_name = {rung.name: rung for rung in self.ladder}
        return tuple(by_name[name] for name in known.given_up if name in by_name) if known else ()

    def as_json(self) -> dict[str, Any]:
        """What `plan --json` prints and plan.json holds. Keys may be added, never renamed; no secret is in it."""
        winner, request = self.winner, self.request
        return {
            "recipe_id": self.recipe_id,
            "recipe_file": winner.recipe.file or None,
            "model_id": self.model,
            "huggingface_id": self.checkpoint,
            "revision": self.revision,
            "backend": winner.variant.backend,
            "precision": winner.recipe.precision,
            "evidence": {**asdict(self.evidence), "counts_as": self.evidence_counts_as},
            "metric": request.metric,
            "gpu_count": winner.gpu_count,
            "tensor_parallel_size": winner.tensor_parallel_size,
            "pipeline_parallel_size": winner.pipeline_parallel_size,
            "data_parallel_size": winner.copies,
            "nodes": winner.nodes,
            "max_model_len": self.context_tokens,
            "concurrency": request.concurrency,
            "gpus": [asdict(gpu) for gpu in winner.gpus],
            "hardware_source": self.inventory.source,
            "checkpoint_bytes": self.checkpoint_bytes,
            "memory": self.ledger.as_json() if self.ledger else {"lines": []},
            "occasion": winner.occasion.as_json() if winner.occasion else None,
            "engine": asdict(self.engine) if self.engine else None,
            "command": self.command.as_json(),
            "ladder": [rung.as_json() for rung in self.ladder],
            "given_up": [rung.name for rung in self.given_up],
            "origins": dict(self.origins),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "chosen_by": self.chosen_by,
            "candidates": candidates_json(self.judged, winner, self.engine),
            "runtime": self._runtime_json(),
        }

    def _runtime_json(self) -> dict[str, Any]:
        request = self.request
        return {
            "state_dir": str(request.state_dir) if request.state_dir else None,
            "cache_dir": str(request.cache_dir),
            "image_cache": str(request.image_cache) if request.image_cache else None,
            "tls_files": [str(path) for path in (request.tls_cert, request.tls_key) if path],
            "host": request.host,
            "port": request.port,
            "health_port": request.health_port,
            "log_level": request.log_level,
            "log_format": request.log_format,
            **request.log_file_json(),
            "start_timeout_seconds": self.start_timeout_seconds,
            "stall_timeout_seconds": request.stall_timeout,
            "hang_timeout_seconds": request.hang_timeout,
            "canary_seconds": request.canary_seconds,
            "drain_timeout_seconds": request.drain_timeout,
            "sanity": request.sanity,
            "computes_on_host": all(gpu.is_host for gpu in self.winner.gpus),
            "keep_alive": request.keep_alive,
            "fallback": request.fallback,
            "max_retries": 2 if request.fallback and request.nodes == 1 else 0,
            "group": request.group_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why there is no plan, with every verdict on every candidate."""

    error: AimError
    judged: tuple[Judged, ...] = ()
    changes: tuple[Change, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """`{error: {class, code, message, hint}, changes: [{kind, setting, sentence}], candidates: [...]}`; each of the
        changes alone would make it fit.
        """
        changes = [change.as_json() for change in self.changes]
        return {"error": self.error.as_json(), "changes": changes, "candidates": candidates_json(self.judged, None)}


def make_plan(
    request: Request,
    inventory: Inventory,
    catalog: Catalog,
    engine: Engine | None = None,
    *,
    chooser: Chooser | None = None,
    advise: bool = True,
) -> Plan | Refusal:
    """Choose, or let choose, and explain; with `advise` also what would fit where this does not, which takes many times
    as long. `engine` is the one installed here, or None. It counts for hardware that is declared only if it could run
    on it; without an engine the newest known one is assumed.

    Raises:
        AimError: the request itself cannot be planned for (no model, an unknown backend, bad engine options).
    """
    if (request.tls_cert is None) != (request.tls_key is None):
        raise InputError("of AIM_TLS_CERT and AIM_TLS_KEY only one is set", hint="set both, or neither")
    request.check_nodes()
    backend = find_backend(request.backend)
    if inventory.declared and engine and not all(gpu.vendor in engine.runs_on for gpu in inventory.gpus):
        engine = None  # the hardware is elsewhere, and so is the engine that will run on it
    unloaded = partial(backend.refused_format, engine=engine)

    over_nodes = spreader(backend, request, engine)
    situation = Situation(request=request, inventory=inventory, catalog=catalog, engine=engine, unloaded=unloaded,
                          over_nodes=over_nodes)  # fmt: skip
    selection = select(situation, _terms_reader(backend, request, engine), chooser, backend.derive, advise=advise)
    if selection.winner is None:
        assert selection.refusal is not None
        return Refusal(error=selection.refusal, judged=selection.judged, changes=selection.changes)
    plan = _plan(situation, selection, selection.winner.candidate, backend)
    loading = _loading(plan, catalog), plan.command.options, engine
    objection = None if request.force else backend.objection(*loading)
    if objection is not None:
        return Refusal(error=objection, judged=selection.judged)
    return replace(plan, warnings=(*plan.warnings, *backend.doubts(*loading)), notes=(*plan.notes, *_begins_at(plan)))


def _begins_at(plan: Plan) -> list[str]:
    known = plan.ledger.measurement if plan.ledger else None
    if known is None or not plan.given_up:
        return []
    words = " and ".join(rung.gives_up for rung in plan.given_up)
    return [f"given up from the start, because on {known.date[:10]} it did not start otherwise: {words}; "
            "AIM_FORGET=1 tries again"]  # fmt: skip


def _plan(situation: Situation, selection: Selection, winner: Candidate, backend: Backend) -> Plan:
    request = situation.request
    context = context_of(request, winner)
    job = job_of(situation, winner, context)
    command = backend.command(job)
    origins = {setting.variable: request.origins.get(setting.field, "default") for setting in SETTINGS}
    return Plan(
        request=request,
        inventory=situation.inventory,
        winner=winner,
        judged=selection.judged,
        command=command,
        context_tokens=context,
        engine=situation.engine,
        chosen_by=selection.chosen_by,
        checkpoint_bytes=_file_bytes(situation, winner),
        ladder=rungs(backend, job, command, request, step_to_more_gpus(situation, selection, winner)),
        origins={**origins, **command.origins},
        warnings=(
            *request.warnings,
            *selection.warnings,
            *command.warnings,
            *cautions(situation, winner, checkpoint_of(request, winner.recipe), command.argv),
        ),
        notes=(
            *situation.inventory.notes,
            *situation.catalog.notes,
            *selection.notes,
            *choices(situation, winner),
            *told_of(winner),
            *command.notes,
        ),
    )


def _file_bytes(situation: Situation, winner: Candidate) -> int | None:
    """Of the weights of what is served, where its files were listed."""
    request, read = situation.request, situation.catalog.checkpoint
    same = request.model_folder is not None or checkpoint_of(request, winner.recipe) == request.model
    return (read.file_bytes or None) if read and same else None


def _loading(plan: Plan, catalog: Catalog) -> Loading:
    """What the engine is to load; nothing is known of another checkpoint than the one that was read."""
    asked = plan.request.model_folder is not None or plan.checkpoint == plan.model
    return Loading.of(plan.model, catalog.card, catalog.checkpoint) if asked else Loading(name=plan.checkpoint)


def _terms_reader(backend: Backend, request: Request, engine: Engine | None) -> Any:
    def read(variant: Variant, gpu: Gpu) -> ServingTerms:
        return backend.read_terms(variant.args, request.engine_args, gpu, engine)

    return read


def candidates_json(
    judged: tuple[Judged, ...], winner: Candidate | None, engine: Engine | None = None
) -> list[dict[str, Any]]:
    """`[{recipe_id, gpu_count, chosen, verdicts: [{rule, passed, sentence}]}]`, best first."""
    return [
        {
            "recipe_id": one.candidate.recipe.recipe_id,
            "gpu_count": one.candidate.gpu_count,
            "tensor_parallel_size": one.candidate.tensor_parallel_size,
            "data_parallel_size": one.candidate.replicas,
            "backend": one.candidate.variant.backend,
            "precision": one.candidate.recipe.precision,
            "evidence": as_it_stands(one.candidate.variant.evidence, engine).level,
            "file": Path(one.candidate.recipe.file).name,
            "chosen": one.candidate is winner,
            "passed_over": one.passed_over,
            "verdicts": [asdict(verdict) for verdict in one.verdicts],
        }
        for one in judged
    ]
