"""How long a start in a pod may take: a plan and how fast things are in, seconds with their reckoning out. Pure.

From it come AIM_START_TIMEOUT, within which the container itself says why a start failed, and the startup probe, which
must not be faster than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aim_engine.deploy.kubernetes.wishes import MEGABYTE, Pace
from aim_engine.plan import Plan
from aim_engine.selection.memory import in_gib

_PROCESSES_SECONDS = 60  # planning, Python's imports in three processes, the first request
# A cold torch.compile with AITER's modules: 280 s of a first request are AITER's alone by AMD's own word
# (github.com/amd-enterprise-ai/aim-build), 2219 s in all are on record (vllm-project/vllm#34399): half as much again
# is added to everything, and a second attempt is allowed for.
_COMPILE_SECONDS = 900
_WARM_UP_SECONDS = 300  # where no graphs are captured
_MARGIN = 1.5
_STEP = 10


@dataclass(frozen=True, kw_only=True)
class Startup:
    """`cold_seconds` for a first start, `warm_seconds` for one more with the weights in the cache; `steps` are what
    they were reckoned from, in words.
    """

    cold_seconds: int
    warm_seconds: int
    steps: tuple[str, ...]
    asked: bool = False
    tries_again: bool = True

    @property
    def probe_seconds(self) -> int:
        """A first start that fails at its very end, and another one, where the container tries one by itself."""
        return self.cold_seconds + (self.warm_seconds if self.tries_again else 0)

    def sentences(self) -> Iterator[str]:
        """The reckoning."""
        if self.asked:
            yield f"one start may take {self.cold_seconds} s, as AIM_START_TIMEOUT says"
        else:
            yield f"one start: {' + '.join(self.steps)}; half as much again: {self.cold_seconds} s (AIM_START_TIMEOUT)"
        if not self.tries_again:
            yield "pods that serve together start again together: no further attempt is made inside"
            return
        yield (
            f"and one more attempt, which the container makes by itself with the weights in the cache: "
            f"{self.warm_seconds} s; together {self.probe_seconds} s"
        )


def startup_of(plan: Plan, pace: Pace, *, downloads: bool) -> Startup:
    """The budget of a start; `downloads` where the weights come from the hub."""
    asked, alone = plan.request.start_timeout, plan.winner.nodes == 1
    if asked is not None:
        seconds = _rounded(asked)
        return Startup(cold_seconds=seconds, warm_seconds=seconds, steps=(), asked=True,
                       tries_again=alone)  # fmt: skip
    weights = weights_bytes(plan)
    load, download = (weights or 0) // pace.disk, (weights or 0) // pace.network if downloads else 0
    compiling = _compile_seconds(plan) if pace.compile_seconds is None else pace.compile_seconds
    warm = _PROCESSES_SECONDS + load + compiling
    return Startup(
        cold_seconds=_rounded(_MARGIN * (warm + download)),
        warm_seconds=_rounded(_MARGIN * warm),
        steps=tuple(_steps(weights, pace, download, load, compiling)),
        tries_again=alone,
    )


def weights_bytes(plan: Plan) -> int | None:
    """What is to be read for one copy of the model, of several nodes by all of them together: they share a cache, and
    which of the files a node can do without nobody knows. None where nobody knows its size.
    """
    if plan.checkpoint_bytes or plan.ledger is None:
        return plan.checkpoint_bytes
    return plan.ledger.lines[0].bytes * plan.winner.variant.gpu_count * plan.winner.nodes


def _steps(weights: int | None, pace: Pace, download: int, load: int, compiling: int) -> Iterator[str]:
    if weights is None:
        yield "the size of the weights is not known, so their time is not in it (AIM_START_TIMEOUT sets it)"
    else:
        size = in_gib(weights)
        if download:
            yield f"{download} s to download {size} at {pace.network // MEGABYTE} MB/s (--network-speed)"
        yield f"{load} s to read {size} at {pace.disk // MEGABYTE} MB/s (--disk-speed)"
    yield f"{compiling} s to compile and to capture graphs (--compile-time)"
    yield f"{_PROCESSES_SECONDS} s for processes and the first request"


def _compile_seconds(plan: Plan) -> int:
    captures = plan.ledger is None or any(line.name == "graphs" for line in plan.ledger.lines)
    return _COMPILE_SECONDS if captures else _WARM_UP_SECONDS


def _rounded(seconds: float) -> int:
    return max(1, -(-int(seconds + 0.999) // _STEP)) * _STEP
