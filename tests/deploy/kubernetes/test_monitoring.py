"""Monitors, rules and the dashboard for a cluster: fields that the CRDs have, ports and keys as the pods have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aim_engine.deploy.dashboard import dashboard
from aim_engine.deploy.kubernetes.monitoring import monitored, scope, service_monitored
from aim_engine.deploy.kubernetes.objects import base_objects
from aim_engine.deploy.kubernetes.pieces import Pieces
from aim_engine.deploy.yaml_text import without_notes
from tests.deploy.custom_resources import check_custom_resource
from tests.deploy.kubernetes.specs import KEY, spec
from tests.deploy.promql import check_rules, needs_promtool


def objects(pieces: Pieces, kind: str) -> list[Any]:
    return [without_notes(one) for one in pieces.objects if one["kind"] == kind]


def endpoints(pieces: Pieces) -> list[Any]:
    """Of the monitors, in their order: the sidecar's, the engine's."""
    found = [one["spec"] for kind in ("PodMonitor", "ServiceMonitor") for one in objects(pieces, kind)]
    return [one.get("podMetricsEndpoints", one.get("endpoints"))[0] for one in found]


@pytest.mark.parametrize("make", [monitored, service_monitored])
def test_they_have_the_fields_of_their_kinds(make: Any) -> None:
    pieces = make(spec(KEY, namespace="models"))
    for one in map(without_notes, pieces.objects):
        assert one["metadata"]["namespace"] == "models"
        if one["kind"] != "ConfigMap":
            check_custom_resource(one)


@pytest.mark.parametrize("make", [monitored, service_monitored])
def test_the_sidecar_is_asked_without_a_key_and_the_engine_with_it(make: Any) -> None:
    """By monitors of their own: one whose secret is not there is dropped whole."""
    pieces = make(spec(KEY))
    health, api = endpoints(pieces)
    assert (health["port"], api["port"]) == ("health", "api")
    assert "authorization" not in health
    assert api["authorization"] == {"type": "Bearer", "credentials": {"name": "qwen-secrets", "key": "AIM_API_KEY"}}
    assert "scheme" not in api
    assert KEY["AIM_API_KEY"] not in json.dumps(without_notes(list(pieces.objects)))


@pytest.mark.parametrize("make", [monitored, service_monitored])
def test_an_engine_that_is_not_ready_is_no_target_and_its_sidecar_is(make: Any) -> None:
    health, api = endpoints(make(spec()))
    (kept,) = api["relabelings"]
    assert kept == {"sourceLabels": ["__meta_kubernetes_pod_ready"], "regex": "true", "action": "keep"}
    assert "relabelings" not in health, "a start shows too"


def test_a_pod_of_a_stateful_set_is_scraped_once() -> None:
    """Two Services lead to it."""
    one = spec(local_cache=True, replicas=2)
    services = [each for each in base_objects(one) if each["kind"] == "Service"]
    assert len(services) == 2
    for monitor in objects(service_monitored(one), "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        assert len([each for each in services if wanted <= each["metadata"]["labels"].items()]) == 1


def test_without_a_key_none_is_asked_of_the_secret() -> None:
    assert all("authorization" not in one for one in endpoints(monitored(spec())))


def test_only_the_api_speaks_tls() -> None:
    health, api = endpoints(monitored(spec(tls_secret="cert")))
    assert "scheme" not in health
    assert (api["scheme"], api["tlsConfig"]) == ("https", {"insecureSkipVerify": True})


def test_they_choose_the_pods_and_the_service_that_are_there() -> None:
    one = spec()
    base = {each["kind"]: each for each in map(without_notes, base_objects(one))}
    pods = base["Deployment"]["spec"]["template"]
    (container,) = pods["spec"]["containers"]
    for monitor, labelled, ports in (
        ("PodMonitor", pods, container["ports"]),
        ("ServiceMonitor", base["Service"], base["Service"]["spec"]["ports"]),
    ):
        pieces = monitored(one) if monitor == "PodMonitor" else service_monitored(one)
        for found in objects(pieces, monitor):
            assert found["spec"]["selector"]["matchLabels"].items() <= labelled["metadata"]["labels"].items()
            assert found["spec"]["podTargetLabels"] == ["app.kubernetes.io/instance"]
        assert {each["port"] for each in endpoints(pieces)} == {port["name"] for port in ports}


def test_the_series_are_chosen_by_the_label_that_the_monitors_put_on_them() -> None:
    """Prometheus' operator makes a series' label of a pod's: everything but letters and digits becomes _."""
    assert scope(spec()) == 'app_kubernetes_io_instance="qwen"'
    assert scope(spec(namespace="models")) == 'namespace="models",app_kubernetes_io_instance="qwen"'


def test_labels_by_which_a_prometheus_chooses() -> None:
    pieces = monitored(spec(monitor_labels={"release": "prometheus"}))
    labelled = [one for kind in ("PodMonitor", "PrometheusRule") for one in objects(pieces, kind)]
    assert {one["metadata"]["labels"]["release"] for one in labelled} == {"prometheus"}


def test_a_start_may_take_what_the_probe_allows() -> None:
    one = spec()
    ((group,),) = (rule["spec"]["groups"] for rule in objects(monitored(one), "PrometheusRule"))
    (slow,) = [rule for rule in group["rules"] if rule["alert"] == "AimEngineStartsSlowly"]
    assert slow["for"] == f"{one.startup.probe_seconds}s"


@needs_promtool
def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    (rule,) = objects(monitored(spec(namespace="models")), "PrometheusRule")
    check_rules(tmp_path, rule["spec"])


def test_grafana_finds_the_dashboard() -> None:
    (found,) = objects(monitored(spec()), "ConfigMap")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = found["data"].values()
    assert json.loads(text) == dashboard()
    assert len(text) < 200_000  # kubectl apply keeps it in an annotation, of 256 KiB at most
