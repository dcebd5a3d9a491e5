"""Steps that engines have in common: a job in, the same job without one thing out. Reads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aim_engine.backends.base import ServeJob, Step
from aim_engine.backends.vllm_platforms import platform_for
from aim_engine.catalog.recipe import ArgumentValue
from aim_engine.catalog.terms import ServingTerms

_LESS_SHARE = 0.05  # of the engine's share, left to what was not reckoned with
_LEAST_SHARE = 0.3


def half_context(job: ServeJob) -> Iterator[Step]:
    """For an engine that cannot find the longest that fits by itself."""
    asked = job.context_tokens
    if isinstance(asked, int):
        yield Step(kind="context", gives_up=f"half of the context of {asked:,} tokens",
                   job=replace(job, context_tokens=max(1, asked // 2)))  # fmt: skip


def smaller_share(job: ServeJob, terms: ServingTerms, *, left_to: str) -> Iterator[Step]:
    """Of a GPU's memory; the rest is `left_to`, in words."""
    share = round((job.memory_fraction or terms.memory_fraction) - _LESS_SHARE, 2)
    if not terms.host_memory and share >= _LEAST_SHARE:
        yield Step(kind="memory share", gives_up=f"{_LESS_SHARE:.0%} of each GPU's memory, {left_to}",
                   job=replace(job, memory_fraction=share))  # fmt: skip


def rccl_instead(job: ServeJob, *, of: str) -> Iterator[Step]:
    """Both engines call theirs by the same name."""
    together = len(job.gpus) > job.replicas and platform_for(job.gpus[0]).visible_variables
    if together and job.args.get("disable-custom-all-reduce") is not True:
        yield Step(kind="collectives", gives_up=f"{of}'s own all-reduce, for RCCL's",
                   job=with_args(job, {"disable-custom-all-reduce": True}))  # fmt: skip


def with_args(job: ServeJob, args: dict[str, ArgumentValue]) -> ServeJob:
    """The job with these options over its recipe's."""
    return replace(job, args={**job.args, **args})
