"""ClusterSpec → what watches its pods: monitors, alerts (monitoring.coreos.com/v1) and the dashboard's ConfigMap. Pure.

Two ports are scraped: the health sidecar's, without a key, has what alerts and autoscaling go by; the API's has the
engine's own metrics behind the API key (runtime/guard.py closes every route). Each has a monitor of its own, because
Prometheus' operator drops a monitor whole whose secret is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.deploy.alerts import rules
from aim_engine.deploy.dashboard import dashboard
from aim_engine.deploy.kubernetes.manifest import Manifest, given, manifest
from aim_engine.deploy.kubernetes.pieces import Pieces
from aim_engine.deploy.kubernetes.pod import API, HEALTH
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.yaml_text import Block, Note

_API_VERSION = "monitoring.coreos.com/v1"
_EVERY = {"path": "/metrics", "interval": "15s", "scrapeTimeout": "10s"}
_INSTANCE = "app.kubernetes.io/instance"
_KEY = "AIM_API_KEY"


def monitored(spec: ClusterSpec) -> Pieces:
    """By PodMonitors: every pod is a target, ready or not, so that a start shows too."""
    return Pieces(objects=(*_monitors(spec, "PodMonitor", "podMetricsEndpoints"), *_watching(spec)))


def service_monitored(spec: ClusterSpec) -> Pieces:
    """By ServiceMonitors, for a Prometheus that looks for those only."""
    return Pieces(objects=(*_monitors(spec, "ServiceMonitor", "endpoints"), *_watching(spec)))


def scope(spec: ClusterSpec) -> str:
    """What chooses the pods' series in Prometheus: their instance label, which the monitors put on each, and which is
    written with _ there.
    """
    matchers = {"namespace": spec.namespace, "app_kubernetes_io_instance": spec.name}
    return ",".join(f'{name}="{text}"' for name, text in matchers.items() if text)


def _monitors(spec: ClusterSpec, kind: str, endpoints: str) -> Iterator[Manifest]:
    for name, endpoint in ((spec.name, {"port": HEALTH, **_EVERY}), (f"{spec.name}-engine", _engine(spec))):
        yield manifest(_API_VERSION, kind, name, namespace=spec.namespace, labels=_labels(spec), spec={
            "selector": {"matchLabels": _chosen(spec, kind)},
            "podTargetLabels": [_INSTANCE],
            endpoints: [endpoint],
        })  # fmt: skip


def _chosen(spec: ClusterSpec, kind: str) -> Mapping[str, str]:
    return spec.selector if kind == "PodMonitor" else spec.labels


def _engine(spec: ClusterSpec) -> Manifest:
    """vLLM's own metrics: percentiles of latency, the prefix cache, how requests ended."""
    with_key = any(one.name == _KEY and one.required for one in spec.container.passed)
    found: Manifest = {
        "port": API, **_EVERY,
        Note("of pods that are ready: before that there is no API, and the sidecar's metrics say why"): None,
        "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_ready"], "regex": "true", "action": "keep"}],
    }  # fmt: skip
    if spec.tls_secret is not None:
        # the certificate is made for the name that clients use, and what is scraped is a pod's address
        found |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    if with_key:
        found["authorization"] = {"type": "Bearer", "credentials": {"name": spec.secret, "key": _KEY}}
    else:
        missing = f"authorization: {{type: Bearer, credentials: {{name: {spec.secret}, key: {_KEY}}}}}"
        found[Note(f"without a key: {_KEY} was not set when this was made. With one in the secret: {missing}")] = None
    return found


def _watching(spec: ClusterSpec) -> Iterator[Manifest]:
    # of a group of nodes only the leader has an engine's counters
    without = ("AimEngineNotCounted",) if spec.nodes > 1 else ()
    found = rules(scope=scope(spec), start_seconds=spec.startup.probe_seconds, name=spec.name, without=without)
    yield manifest(
        _API_VERSION, "PrometheusRule", spec.name, namespace=spec.namespace, labels=_labels(spec), spec=found
    )
    text = json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"
    yield manifest(
        "v1", "ConfigMap", f"{spec.name}-dashboard", namespace=spec.namespace,
        labels={**spec.labels, "grafana_dashboard": "1"}, data={"aim-engine.json": Block(text)},
    )  # fmt: skip


def _labels(spec: ClusterSpec) -> dict[str, Any]:
    """With those by which a Prometheus chooses its monitors and rules."""
    return given({**spec.labels, **spec.monitor_labels})
