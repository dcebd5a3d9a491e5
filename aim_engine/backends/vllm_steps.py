"""What vLLM can do without when a start fails: a job in, the same job without one thing each out.

What is tried after which failure is for others to say. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aim_engine.backends.base import ServeJob, Step
from aim_engine.backends.steps import half_context, rccl_instead, smaller_share, with_args
from aim_engine.backends.vllm_options import dashed, version_of
from aim_engine.catalog.terms import ServingTerms

_FITS_ITSELF_SINCE = (0, 14)  # --max-model-len auto (vllm/config/model.py)
_KERNELS = "VLLM_ROCM_USE_AITER"  # without it none of its sub-switches does anything (vllm/envs.py)


def steps_of(job: ServeJob, terms: ServingTerms) -> tuple[Step, ...]:
    """Each thing that the job has and can do without."""
    return (*_context(job), *_share(job, terms), *_eager(job, terms), *_kernels(job), *rccl_instead(job, of="vLLM"))


def _context(job: ServeJob) -> Iterator[Step]:
    asked, version = job.context_tokens, version_of(job)
    if isinstance(asked, int) and (version is None or version[:2] >= _FITS_ITSELF_SINCE):
        yield Step(kind="context", gives_up=f"a context of {asked:,} tokens, for the longest that fits",
                   job=replace(job, context_tokens="auto"))  # fmt: skip
    else:
        yield from half_context(job)


def _share(job: ServeJob, terms: ServingTerms) -> Iterator[Step]:
    if "gpu-memory-utilization" not in dashed(job.overrides):
        yield from smaller_share(job, terms, left_to="which stays free")


def _eager(job: ServeJob, terms: ServingTerms) -> Iterator[Step]:
    if not terms.eager:
        yield Step(kind="eager", gives_up="compilation and captured graphs, and so speed",
                   job=with_args(job, {"enforce-eager": True}))  # fmt: skip


def _kernels(job: ServeJob) -> Iterator[Step]:
    own, of_recipe = job.environment.get(_KERNELS), job.env.get(_KERNELS)
    others = {name: value for name, value in job.env.items() if not name.startswith(f"{_KERNELS}_")}
    if own is None and of_recipe in ("1", "true", "True"):
        yield Step(kind="kernels", gives_up="AITER's kernels, for the slower ones of Triton and hipBLASLt",
                   job=replace(job, env={**others, _KERNELS: "0"}))  # fmt: skip
