"""What is worth waking somebody for: which targets are meant in, Prometheus' alerting rules out.

Every name in them is one that the health sidecar serves (runtime/routes.py, runtime/exposition.py), for every engine
and without a key. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_SLOW_START_SECONDS = 1800.0  # where no plan says how long a start may take
_INTERVAL = "30s"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One rule. In the expression SCOPE stands for what chooses among the targets, START for the seconds of a start."""

    name: str
    severity: str
    expression: str
    summary: str
    description: str
    after: str = ""  # how long it must have been so

    def rule(self, scope: str, start_seconds: float) -> dict[str, Any]:
        """As a rules file has it."""
        found: dict[str, Any] = {"alert": self.name, "expr": scoped(self.expression, scope)}
        if self.after:
            found["for"] = self.after.replace("START", f"{int(start_seconds)}s")
        return found | {
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.description},
        }


_WHO = "{{ $labels.job }} {{ $labels.instance }}"
_VALUE = "{{ $value | humanize }}"
_PERCENT = "{{ $value | humanizePercentage }}"

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="AimEngineDown",
        severity="critical",
        # a target that served our metrics within the hour: another job's, or one that was taken away, does not count
        expression="up{SCOPE} == 0 and on (job, instance) last_over_time(aim_engine_info{SCOPE}[1h])",
        after="2m",
        summary=f"{_WHO} does not answer",
        description="The health sidecar answers from the first second to the last, so the container has ended or "
        "cannot be reached. Its last words say why: aim-engine status NAME, or the pod's termination message.",
    ),
    Alert(
        name="AimEngineHung",
        severity="critical",
        expression="aim_engine_live{SCOPE} == 0",
        summary=f"The engine of {_WHO} hangs",
        description="Work waits and nothing moves. It is started again by itself; /status has the reason, and what was "
        "seen before.",
    ),
    Alert(
        name="AimEngineFailed",
        severity="critical",
        expression='aim_engine_phase{phase="failed",SCOPE} == 1',
        after="1m",
        summary=f"{_WHO} has failed and is not started again",
        description="/health/ready has the reason and the remedy. With AIM_KEEP_ALIVE=1 it stays up to be looked at.",
    ),
    Alert(
        name="AimEngineStartsSlowly",
        severity="warning",
        expression='sum without (phase) (aim_engine_phase{phase=~"planning|starting|loading|probing",SCOPE}) == 1',
        after="START",
        summary=f"{_WHO} takes longer to start than it should",
        description="/status shows the phases with their times. A slow disk or network and a cold cache of compiled "
        "kernels are the usual reasons: keep AIM_CACHE_DIR on a volume.",
    ),
    Alert(
        name="AimEngineRestarts",
        severity="warning",
        expression="increase(aim_engine_restarts_total{SCOPE}[1h]) > 0",
        summary=f"The engine of {_WHO} was started again after a failure",
        description="/status lists the attempts, each with its failure.",
    ),
    Alert(
        name="AimEngineContainerRestarts",
        severity="warning",
        expression="changes(aim_engine_start_time_seconds{SCOPE}[1h]) > 1",
        summary=f"The container of {_WHO} was started {_VALUE} times within the hour",
        description="What ended it is in its last words. Codes 10 to 42 and 50 are permanent: no restart can help.",
    ),
    Alert(
        name="AimEngineServesWithLess",
        severity="info",
        expression="aim_engine_given_up{SCOPE} > 0",
        summary=f"{_WHO} serves with less than was planned",
        description="After a failure it gave something up, such as context or compiled graphs; given_up in /status "
        "says what. AIM_FORGET=1 tries with everything again.",
    ),
    Alert(
        name="AimEngineKvCacheFull",
        severity="warning",
        expression="avg_over_time(aim_engine_kv_cache_usage_ratio{SCOPE}[10m]) > 0.95",
        after="5m",
        summary=f"The KV cache of {_WHO} is {_PERCENT} full",
        description="Requests wait for room, or are put back and computed again. Another replica, more GPUs, a shorter "
        "AIM_MAX_MODEL_LEN or a KV cache in fp8 make room.",
    ),
    Alert(
        name="AimEngineQueueGrows",
        severity="warning",
        expression="min_over_time(aim_engine_requests_waiting{SCOPE}[10m]) > 0"
        " and deriv(aim_engine_requests_waiting{SCOPE}[10m]) > 0",
        after="5m",
        summary=f"At least {_VALUE} requests wait at {_WHO}, and more every minute",
        description="More arrives than is answered: add a replica, or limit what comes in.",
    ),
    Alert(
        name="AimEngineFirstTokenSlow",
        severity="warning",
        expression="rate(aim_engine_first_token_seconds_total{SCOPE}[10m])"
        " / rate(aim_engine_first_tokens_total{SCOPE}[10m]) > 10",
        after="10m",
        summary=f"The first token takes {_VALUE} s on average at {_WHO}",
        description="Long prompts, or a queue: compare aim_engine_requests_waiting, aim_engine_kv_cache_usage_ratio.",
    ),
    Alert(
        name="AimEngineNotCounted",
        severity="warning",
        expression="aim_engine_ready{SCOPE} == 1 unless on (job, instance) aim_engine_requests_waiting{SCOPE}",
        after="10m",
        summary=f"{_WHO} is ready, and nothing is known of its load",
        description="Autoscaling and the alerts on load see nothing: the engine's own /metrics does not answer the "
        "sidecar.",
    ),
)


def scoped(expression: str, scope: str) -> str:
    """The expression for these targets; an empty scope means all."""
    return expression.replace("SCOPE", scope).replace(",}", "}").replace("{}", "")


def rules(
    *,
    scope: str = "",
    start_seconds: float = _SLOW_START_SECONDS,
    name: str = "aim-engine",
    without: Collection[str] = (),
) -> dict[str, Any]:
    """A rules file, and what a PrometheusRule's `spec` is: one group called `name`."""
    found = [alert.rule(scope, start_seconds) for alert in ALERTS if alert.name not in without]
    return {"groups": [{"name": name, "interval": _INTERVAL, "rules": found}]}
