"""What sglang can do without when a start fails: a job in, the same job without one thing each out.

What is tried after which failure is for others to say. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aim_engine.backends.base import ServeJob, Step
from aim_engine.backends.sglang_options import named
from aim_engine.backends.steps import half_context, rccl_instead, smaller_share, with_args
from aim_engine.catalog.terms import ServingTerms

_KERNELS = "SGLANG_USE_AITER"


def steps_of(job: ServeJob, terms: ServingTerms) -> tuple[Step, ...]:
    """Each thing that the job has and can do without."""
    return (
        *half_context(job),
        *_share(job, terms),
        *_eager(job, terms),
        *_kernels(job),
        *rccl_instead(job, of="sglang"),
    )


def _share(job: ServeJob, terms: ServingTerms) -> Iterator[Step]:
    if "mem-fraction-static" not in named(job.overrides):
        yield from smaller_share(job, terms, left_to="left to activations")


def _eager(job: ServeJob, terms: ServingTerms) -> Iterator[Step]:
    if not terms.eager:
        yield Step(kind="eager", gives_up="captured graphs, and so speed",
                   job=with_args(job, {"disable-cuda-graph": True}))  # fmt: skip


def _kernels(job: ServeJob) -> Iterator[Step]:
    if job.environment.get(_KERNELS) is None and job.env.get(_KERNELS, "").lower() in ("1", "true"):
        # an attention backend of AITER's would load its kernels all the same
        args = {name: value for name, value in named(job.args).items() if (name, value) != _AITER_ATTENTION}
        yield Step(kind="kernels", gives_up="AITER's kernels, for the slower ones of Triton",
                   job=replace(job, args=args, env={**job.env, _KERNELS: "0"}))  # fmt: skip


_AITER_ATTENTION = ("attention-backend", "aiter")
