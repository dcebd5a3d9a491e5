"""What is tried after which failure: a kind of step and a request in, the failures that it is for out.

Pure. What a step means to an engine is its backend's to say, and when one is taken the runtime's.
"""

from __future__ import annotations

from collections.abc import Mapping

from aim_engine.request import Request

# What is given up, in the order in which it is tried, each on top of what was before, and the failures (as the runtime
# names them) after which it may help. "cache": what is left of the memory is too little for the context; "no cache":
# for any, so that a shorter one is of no use; "memory": an allocation failed while it started, "serving memory": while
# it served; "kernel", "collective": a library's code failed; "crash": nobody knows why, and it came again.
STEPS: Mapping[str, tuple[str, ...]] = {
    "context": ("cache",),
    "memory share": ("memory", "serving memory"),
    "kernels": ("kernel",),
    "collectives": ("collective",),
    "eager": ("cache", "no cache", "memory", "serving memory", "kernel", "collective", "crash"),
    "more gpus": ("cache", "no cache", "memory", "serving memory"),
}
ORDER = tuple(STEPS)


def failures_for(kind: str, request: Request) -> tuple[str, ...]:
    """The failures after which a step of that kind is tried; none where the user asked for just what it gives up."""
    return () if not request.fallback or _asked_for(kind, request) else STEPS.get(kind, ())


def _asked_for(kind: str, request: Request) -> bool:
    if kind == "context":
        return isinstance(request.max_model_len, int)
    return kind == "more gpus" and request.gpu_count is not None
