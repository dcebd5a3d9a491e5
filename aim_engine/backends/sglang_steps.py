"""What sglang can do without when a start fails: a job in, the same job without one thing each out.

What is tried after which failure is for others to say. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aim_engine.backends.base import ServeJob, Step
from aim_engine.backends.sglang_options import named
from aim_engine.backends.vllm_platforms import platform_for
from aim_engine.catalog.recipe import ArgumentValue
from aim_engine.catalog.terms import ServingTerms

_LESS_SHARE = 0.05  # of what is free, left to activations and graphs, which stand beside the share
_LEAST_SHARE = 0.3
_KERNELS = "SGLANG_USE_AITER"


def steps_of(job: ServeJob, terms: ServingTerms) -> tuple[Step, ...]:
    """Each thing that the job has and can do without."""
    return (*_context(job), *_share(job, terms), *_eager(job, terms), *_kernels(job), *_collectives(job))


def _context(job: ServeJob) -> Iterator[Step]:
    asked = job.context_tokens
    if isinstance(asked, int):
        yield Step(kind="context", gives_up=f"half of the context of {asked:,} tokens",
                   job=replace(job, context_tokens=max(1, asked // 2)))  # fmt: skip


def _share(job: ServeJob, terms: ServingTerms) -> Iterator[Step]:
    share = round((job.memory_fraction or terms.memory_fraction) - _LESS_SHARE, 2)
    users = "mem-fraction-static" in named(job.overrides)
    if not users and not terms.host_memory and share >= _LEAST_SHARE:
        yield Step(kind="memory share", gives_up=f"{_LESS_SHARE:.0%} of each GPU's memory, left to activations",
                   job=replace(job, memory_fraction=share))  # fmt: skip


def _eager(job: ServeJob, terms: ServingTerms) -> Iterator[Step]:
    if not terms.eager:
        yield Step(kind="eager", gives_up="captured graphs, and so speed",
                   job=_with(job, {"disable-cuda-graph": True}))  # fmt: skip


def _kernels(job: ServeJob) -> Iterator[Step]:
    if job.environment.get(_KERNELS) is None and job.env.get(_KERNELS, "").lower() in ("1", "true"):
        # an attention backend of AITER's would load its kernels all the same
        args = {name: value for name, value in named(job.args).items() if (name, value) != _AITER_ATTENTION}
        yield Step(kind="kernels", gives_up="AITER's kernels, for the slower ones of Triton",
                   job=replace(job, args=args, env={**job.env, _KERNELS: "0"}))  # fmt: skip


_AITER_ATTENTION = ("attention-backend", "aiter")


def _collectives(job: ServeJob) -> Iterator[Step]:
    together = len(job.gpus) > job.replicas and platform_for(job.gpus[0]).visible_variables
    if together and job.args.get("disable-custom-all-reduce") is not True:
        yield Step(kind="collectives", gives_up="sglang's own all-reduce, for RCCL's",
                   job=_with(job, {"disable-custom-all-reduce": True}))  # fmt: skip


def _with(job: ServeJob, args: dict[str, ArgumentValue]) -> ServeJob:
    return replace(job, args={**job.args, **args})
