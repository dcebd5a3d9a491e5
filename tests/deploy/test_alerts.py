"""The alerts: names that are served, rules that Prometheus accepts, and each of them firing and keeping quiet."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.deploy.alerts import ALERTS, rules, scoped
from aim_engine.runtime.exposition import ENGINE_METRICS
from aim_engine.runtime.health import PHASES, Verdict
from aim_engine.runtime.routes import Snapshot, metrics
from tests.deploy.promql import check_rules, names_in, needs_promtool, promtool

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "monitoring" / "alerts.yaml"


def served_names() -> set[str]:
    """What the sidecar of a server that is ready serves."""
    snapshot = Snapshot(
        verdict=Verdict(phase="ready", ready=True), plan={}, pid=1, timeline=({"at": 1.0, "phase": "ready"},),
        attempts=(), counters=dict.fromkeys(ENGINE_METRICS, 1.0), now=2.0,
    )  # fmt: skip
    return set(re.findall(r"^([a-z_]+)[{ ]", metrics(snapshot), re.MULTILINE))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_it_goes_by_metrics_that_the_sidecar_serves(alert: Any) -> None:
    named = names_in(alert.expression)
    assert named
    assert named <= served_names()
    phases = re.findall(r'phase=~?"([a-z|]+)"', alert.expression)
    assert {phase for one in phases for phase in one.split("|")} <= set(PHASES)


def test_every_alert_has_a_name_of_its_own_and_says_what_to_do() -> None:
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    assert all(alert.description.endswith(".") and len(alert.description) > 40 for alert in ALERTS)
    assert {alert.severity for alert in ALERTS} <= {"critical", "warning", "info"}


def test_the_committed_file_is_these() -> None:
    assert yaml.safe_load(COMMITTED.read_text()) == rules(), "aim-engine render alerts -o docs/monitoring/alerts.yaml"


def test_a_scope_chooses_in_every_selector() -> None:
    expression = 'up{SCOPE} == 0 and a{phase="x",SCOPE}'
    assert scoped(expression, "") == 'up == 0 and a{phase="x"}'
    assert scoped(expression, 'pod="p"') == 'up{pod="p"} == 0 and a{phase="x",pod="p"}'
    for alert in ALERTS:
        assert alert.expression.count("SCOPE") == len(re.findall(r"\b(?:aim_engine_\w+|up)\b", alert.expression))


@needs_promtool
@pytest.mark.parametrize("scope", ["", 'app_kubernetes_io_instance="mine"'])
def test_prometheus_accepts_them(tmp_path: Path, scope: str) -> None:
    check_rules(tmp_path, rules(scope=scope, start_seconds=12345.6))


# --- fired by the real rule engine ---------------------------------------------------------------------------------

# Alert, then series in promtool's notation, a sample every 30 seconds; when to look; whether it fires.
Series = dict[str, str]
CASES: tuple[tuple[str, Series, str, bool], ...] = (
    ("AimEngineDown", {"up": "1x10 0x20", "aim_engine_info": "1x10 _x20"}, "10m", True),
    ("AimEngineDown", {"up": "1x10 0x20", "aim_engine_info": "1x10 _x20"}, "6m", False),  # not for long enough
    ("AimEngineDown", {"up": "0x30"}, "10m", False),  # another job's target
    ("AimEngineDown", {"up": "1x10 _x20", "aim_engine_info": "1x10 _x20"}, "15m", False),  # taken away
    ("AimEngineHung", {"aim_engine_live": "1x5 0x10"}, "5m", True),
    ("AimEngineHung", {"aim_engine_live": "1x15"}, "5m", False),
    ("AimEngineFailed", {'aim_engine_phase{phase="failed"}': "0x5 1x20"}, "10m", True),
    ("AimEngineFailed", {'aim_engine_phase{phase="loading"}': "1x20"}, "10m", False),
    ("AimEngineStartsSlowly", {'aim_engine_phase{phase="loading"}': "1x30 0x60",
                               'aim_engine_phase{phase="probing"}': "0x30 1x60"}, "35m", True),
    ("AimEngineStartsSlowly", {'aim_engine_phase{phase="loading"}': "1x90"}, "25m", False),
    ("AimEngineStartsSlowly", {'aim_engine_phase{phase="ready"}': "1x90"}, "40m", False),
    ("AimEngineRestarts", {"aim_engine_restarts_total": "0x10 1x10"}, "10m", True),
    ("AimEngineRestarts", {"aim_engine_restarts_total": "1x20"}, "10m", False),
    ("AimEngineContainerRestarts", {"aim_engine_start_time_seconds": "100x5 200x5 300x10"}, "10m", True),
    ("AimEngineContainerRestarts", {"aim_engine_start_time_seconds": "100x5 200x15"}, "10m", False),
    ("AimEngineServesWithLess", {"aim_engine_given_up": "0x5 1x10"}, "5m", True),
    ("AimEngineServesWithLess", {"aim_engine_given_up": "0x15"}, "5m", False),
    ("AimEngineKvCacheFull", {"aim_engine_kv_cache_usage_ratio": "0.97x60"}, "20m", True),
    ("AimEngineKvCacheFull", {"aim_engine_kv_cache_usage_ratio": "0.97x5 0.6x55"}, "20m", False),
    ("AimEngineQueueGrows", {"aim_engine_requests_waiting": "1+1x60"}, "20m", True),
    ("AimEngineQueueGrows", {"aim_engine_requests_waiting": "7x60"}, "20m", False),  # long, and no longer than before
    ("AimEngineQueueGrows", {"aim_engine_requests_waiting": "0x30 1+1x5 0x30"}, "20m", False),
    ("AimEngineFirstTokenSlow", {"aim_engine_first_token_seconds_total": "0+600x80",
                                 "aim_engine_first_tokens_total": "0+30x80"}, "30m", True),
    ("AimEngineFirstTokenSlow", {"aim_engine_first_token_seconds_total": "0+30x80",
                                 "aim_engine_first_tokens_total": "0+30x80"}, "30m", False),
    ("AimEngineFirstTokenSlow", {"aim_engine_first_token_seconds_total": "900x80",
                                 "aim_engine_first_tokens_total": "3x80"}, "30m", False),  # idle
    ("AimEngineNotCounted", {"aim_engine_ready": "1x60"}, "15m", True),
    ("AimEngineNotCounted", {"aim_engine_ready": "1x60", "aim_engine_requests_waiting": "0x60"}, "15m", False),
)  # fmt: skip
LABELS = {"job": "models", "instance": "10.0.0.7:8080", "app_kubernetes_io_instance": "mine"}


def _series(name: str) -> str:
    metric, _, own = name.partition("{")
    labels = [f'{label}="{text}"' for label, text in LABELS.items()]
    return f"{metric}{{{','.join([*labels, *([own.rstrip('}')] if own else [])])}}}"


def _test(case: tuple[str, Series, str, bool], fires: bool) -> dict[str, Any]:
    name, series, at, _ = case
    count = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    return {
        "name": f"{name} at {at}: {series}",
        "interval": "30s",
        "input_series": [{"series": _series(one), "values": values} for one, values in series.items()],
        "promql_expr_test": [{"expr": count, "eval_time": at, "exp_samples": [{"labels": "{}", "value": int(fires)}]}],
    }


def _run(folder: Path, scope: str, tests: list[dict[str, Any]]) -> None:
    (folder / "alerts.yaml").write_text(json.dumps(rules(scope=scope)))
    path = folder / "tests.yaml"
    path.write_text(json.dumps({"rule_files": ["alerts.yaml"], "evaluation_interval": "30s", "tests": tests}))
    promtool("test", "rules", path)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert {case[0] for case in CASES if case[3]} == {case[0] for case in CASES if not case[3]}
    assert {case[0] for case in CASES} == {alert.name for alert in ALERTS}


@needs_promtool
@pytest.mark.parametrize("scope", ["", 'app_kubernetes_io_instance="mine"'])
def test_each_fires_when_it_should_and_only_then(tmp_path: Path, scope: str) -> None:
    _run(tmp_path, scope, [_test(case, case[3]) for case in CASES])


@needs_promtool
def test_another_models_pods_fire_nothing(tmp_path: Path) -> None:
    _run(tmp_path, 'app_kubernetes_io_instance="other"', [_test(case, fires=False) for case in CASES])


@needs_promtool
def test_promtool_would_say_if_one_did_not_fire(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="FAILED"):
        _run(tmp_path, "", [_test(CASES[0], fires=False)])
