"""What the backend is asked to serve: a situation and a chosen candidate in, the `ServeJob` out. Pure."""

from __future__ import annotations

from aim_engine.backends.base import Backend, NodeGroup, ServeJob, Step
from aim_engine.catalog.recipe import Variant
from aim_engine.hardware.installed import Engine
from aim_engine.request import Request
from aim_engine.selection.candidate import Candidate, OverNodes, Situation
from aim_engine.selection.select import Selection
from aim_engine.selection.served import checkpoint_of, revision_of


def job_of(situation: Situation, winner: Candidate, context: int | str | None) -> ServeJob:
    """The candidate as a job, with that context."""
    request = situation.request
    return ServeJob(
        recipe_id=winner.recipe.recipe_id,
        args=winner.variant.args,
        env=winner.variant.env,
        optional=winner.variant.optional,
        overrides=request.engine_args,
        environment=request.environment,
        model=checkpoint_of(request, winner.recipe),
        served_names=_served_names(request, winner),
        gpus=winner.gpus,
        visible_gpus=situation.inventory.gpus,
        replicas=winner.replicas,
        context_tokens=context,
        kv_bytes=winner.ledger.kv_bytes if winner.ledger else None,
        visibility=situation.inventory.visibility,
        gpu_type=winner.recipe.gpu_type,
        precision=winner.recipe.precision,
        memory_fraction=winner.memory_fraction,
        host=request.host,
        port=request.port,
        cache_dir=request.cache_dir,
        drain_seconds=request.drain_timeout,
        offline=request.offline,
        tls_cert=request.tls_cert,
        tls_key=request.tls_key,
        hooked=request.hooked,
        group=NodeGroup(
            count=winner.nodes,
            rank=request.node_rank,
            address=request.leader_address or "",
            port=request.leader_port,
        ),
        engine=situation.engine,
        revision=revision_of(request, situation.catalog, winner.recipe, winner.variant),
    )


def _served_names(request: Request, winner: Candidate) -> tuple[str, ...]:
    """The names a client may ask for: the model as it was asked for, the checkpoint, and a folder's own name."""
    names = [request.required_model, checkpoint_of(request, winner.recipe)]
    if request.model_folder is not None:
        names.append(request.model_folder.absolute().name)
    return tuple(dict.fromkeys(name for name in names if name))


def spreader(backend: Backend, request: Request, engine: Engine | None) -> OverNodes:
    """The backend's way to split a variant over nodes, as the user's options want it."""

    def over_nodes(variant: Variant, nodes: int, here: int) -> Variant:
        return backend.over_nodes(variant, nodes, here, request.engine_args, engine)

    return over_nodes


def context_of(request: Request, winner: Candidate) -> int | str | None:
    """The context length to serve: the ledger's, or what was asked for, or None for the recipe's or model's own."""
    if winner.ledger is not None:
        return winner.ledger.context_tokens
    return request.max_model_len


def step_to_more_gpus(situation: Situation, selection: Selection, winner: Candidate) -> tuple[Step, ...]:
    """The same recipe on the next larger number of GPUs, where it would do."""
    same = [one.candidate for one in selection.judged if one.passed and one.candidate.recipe is winner.recipe
            and one.candidate.replicas == winner.replicas and one.candidate.gpu_count > winner.gpu_count]  # fmt: skip
    wider = min(same, key=lambda one: one.gpu_count, default=None)
    if wider is None:
        return ()
    job = job_of(situation, wider, context_of(situation.request, wider))
    more = wider.gpu_count - winner.gpu_count
    words = f"{more} more GPU{'s' if more > 1 else ''}, which nothing else can use then"
    return (Step(kind="more gpus", gives_up=words, job=job),)
