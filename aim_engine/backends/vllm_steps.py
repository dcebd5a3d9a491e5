"""What vLLM can do without when a start fails: a job in, the same job without one thing each out.

What is tried after which failure is for others to say. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aim_engine.backends import vllm_platforms as platforms
from aim_engine.backends.base import ServeJob, Step
from aim_engine.backends.vllm_options import dashed, version_of
from aim_engine.catalog.recipe import ArgumentValue
from aim_engine.catalog.terms import ServingTerms

_FITS_ITSELF_SINCE = (0, 14)  # --max-model-len auto (vllm/config/model.py)
_LESS_SHARE = 0.05  # of a GPU's memory, left to what was not reckoned with
_LEAST_SHARE = 0.3
_KERNELS = "VLLM_ROCM_USE_AITER"  # without it none of its sub-switches does anything (vllm/envs.py)


def steps_of(job: ServeJob, terms: ServingTerms) -> tuple[Step, ...]:
    """Each thing that the job has and can do without."""
    return (*_context(job), *_share(job, terms), *_eager(job, terms), *_kernels(job), *_collectives(job))


def _context(job: ServeJob) -> Iterator[Step]:
    asked, version = job.context_tokens, version_of(job)
    if not isinstance(asked, int):
        return
    if version is None or version[:2] >= _FITS_ITSELF_SINCE:
        yield Step(kind="context", gives_up=f"a context of {asked:,} tokens, for the longest that fits",
                   job=replace(job, context_tokens="auto"))  # fmt: skip
    else:
        yield Step(kind="context", gives_up=f"half of the context of {asked:,} tokens",
                   job=replace(job, context_tokens=max(1, asked // 2)))  # fmt: skip


def _share(job: ServeJob, terms: ServingTerms) -> Iterator[Step]:
    share = round((job.memory_fraction or terms.memory_fraction) - _LESS_SHARE, 2)
    users = "gpu-memory-utilization" in dashed(job.overrides)
    if not users and not terms.host_memory and share >= _LEAST_SHARE:
        yield Step(kind="memory share", gives_up=f"{_LESS_SHARE:.0%} of each GPU's memory, which stays free",
                   job=replace(job, memory_fraction=share))  # fmt: skip


def _eager(job: ServeJob, terms: ServingTerms) -> Iterator[Step]:
    if not terms.eager:
        yield Step(kind="eager", gives_up="compilation and captured graphs, and so speed",
                   job=_with(job, {"enforce-eager": True}))  # fmt: skip


def _kernels(job: ServeJob) -> Iterator[Step]:
    own, of_recipe = job.environment.get(_KERNELS), job.env.get(_KERNELS)
    others = {name: value for name, value in job.env.items() if not name.startswith(f"{_KERNELS}_")}
    if own is None and of_recipe in ("1", "true", "True"):
        yield Step(kind="kernels", gives_up="AITER's kernels, for the slower ones of Triton and hipBLASLt",
                   job=replace(job, env={**others, _KERNELS: "0"}))  # fmt: skip


def _collectives(job: ServeJob) -> Iterator[Step]:
    together = len(job.gpus) > job.replicas and platforms.platform_for(job.gpus[0]).visible_variables
    if together and job.args.get("disable-custom-all-reduce") is not True:
        yield Step(kind="collectives", gives_up="vLLM's own all-reduce, for RCCL's",
                   job=_with(job, {"disable-custom-all-reduce": True}))  # fmt: skip


def _with(job: ServeJob, args: dict[str, ArgumentValue]) -> ServeJob:
    return replace(job, args={**job.args, **args})
