"""The classes of failure, all of them, in the order of a run: no input; `FAILURE_CLASSES` out.

Data for the documentation and the tests. Those that the engine's log tells are found in `signatures`, the others where
`told_by` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aim_engine.errors import (
    AimError,
    CacheError,
    DoesNotFitError,
    EngineCrashedError,
    EngineHungError,
    EngineRefusedError,
    EngineStartTimeoutError,
    HubUnreachableError,
    InputError,
    ModelAccessError,
)
from aim_engine.runtime.failures import CRASH, HOST_MEMORY
from aim_engine.runtime.signature import Signature
from aim_engine.runtime.signatures import SIGNATURES

LOG = "the engine's log"


@dataclass(frozen=True, kw_only=True)
class FailureClass:
    """One class: `kind` as the ladder and the tests call it, what happened, the error that names it to programs (None
    for an end that was asked for), and by what it is known.
    """

    kind: str
    happened: str
    error: type[AimError] | None
    told_by: str = LOG

    @property
    def signatures(self) -> tuple[Signature, ...]:
        return tuple(one for one in SIGNATURES if one.kind == self.kind)

    @property
    def codes(self) -> tuple[int, ...]:
        """Its exit codes: a crash's too, where it may also come to an engine that was ready."""
        if self.error is None:
            return (0, 130, 143)
        late = {EngineCrashedError.code} if any(one.serving and one.starting for one in self.signatures) else set()
        return tuple(sorted({self.error.code} | late))

    @property
    def sources(self) -> Iterator[str]:
        yield from dict.fromkeys(one.source for one in self.signatures)


FAILURE_CLASSES: tuple[FailureClass, ...] = (
    FailureClass(kind="program", happened="the engine's program is not where the plan expects it",
                 error=EngineRefusedError),
    FailureClass(kind="option", happened="an option, a value or a parser's name that the engine does not know",
                 error=EngineRefusedError),
    FailureClass(kind="no device", happened="the engine finds no device it can run on", error=EngineRefusedError),
    FailureClass(kind="absent", happened="there is no such model, neither as a folder nor on the hub",
                 error=ModelAccessError),
    FailureClass(kind="not cached", happened="the hub is not to be asked, or not there, and the cache lacks the model",
                 error=ModelAccessError),
    FailureClass(kind="gated", happened="the hub does not give the model to this token", error=ModelAccessError),
    FailureClass(kind="hub", happened="the hub does not answer", error=HubUnreachableError),
    FailureClass(kind="disk", happened="a disk is full", error=CacheError),
    FailureClass(kind="checkpoint", happened="the model's files are damaged, incomplete or of different models",
                 error=ModelAccessError),
    FailureClass(kind="architecture", happened="the engine has no class, or no kernel, for the model",
                 error=EngineRefusedError),
    FailureClass(kind="remote code", happened="the model needs code of its own, which is not run unasked",
                 error=InputError),
    FailureClass(kind="port", happened="another program took the port while the engine started", error=InputError),
    FailureClass(kind="shared memory", happened="the shared memory is missing, too small or another user's",
                 error=CacheError),
    FailureClass(kind="memory", happened="other programs hold the memory, or an allocation fails at the start",
                 error=DoesNotFitError),
    FailureClass(kind="cache", happened="what the weights leave is too little for the context's KV cache; the engine's "
                 "own suggestion is repeated", error=DoesNotFitError),
    FailureClass(kind="no cache", happened="the weights leave no memory for a KV cache of any length",
                 error=DoesNotFitError),
    FailureClass(kind="slow start", happened="the engine is not ready in time, or its start stands still",
                 error=EngineStartTimeoutError, told_by="the watch's clock (AIM_START_TIMEOUT, AIM_STALL_TIMEOUT)"),
    FailureClass(kind="kernel", happened="a GPU kernel fails, of AITER or another library", error=EngineCrashedError),
    FailureClass(kind="device", happened="a GPU is lost", error=EngineCrashedError),
    FailureClass(kind="collective", happened="the GPUs cannot work together (RCCL)", error=EngineCrashedError),
    FailureClass(kind="serving memory", happened="the GPU's memory runs out while requests are served",
                 error=EngineCrashedError),
    FailureClass(kind=HOST_MEMORY, happened="the kernel kills the engine, or a process of it, for want of memory",
                 error=EngineCrashedError, told_by="the control group's count of such kills (memory.events)"),
    FailureClass(kind="hung", happened="the engine stops making progress", error=EngineHungError,
                 told_by="the health sidecar's verdict (AIM_HANG_TIMEOUT)"),
    FailureClass(kind=CRASH, happened="the engine ends, whatever its exit status, and nobody knows why",
                 error=EngineCrashedError, told_by="its end, though nobody asked for it"),
    FailureClass(kind="stopped", happened="a stop was asked for: 0 when every request finished, the signal's code when "
                 "some were cut", error=None, told_by="SIGTERM, SIGINT, SIGHUP or SIGQUIT to the parent"),
)  # fmt: skip
