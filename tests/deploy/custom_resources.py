"""The fields of the custom resources that are written, and a strict check against them: no field of another name, no
value of another type. A pod in them is checked apart, against Kubernetes' own schemas.

From the CRDs' published schemas (github.com/datreeio/CRDs-catalog: monitoring.coreos.com podmonitor_v1,
servicemonitor_v1, prometheusrule_v1; keda.sh scaledobject_v1alpha1; serving.kserve.io servingruntime_v1alpha1,
inferenceservice_v1beta1) and the types they are made of (kserve/kserve, pkg/apis/serving).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.deploy.planning import check_kind

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DURATION = re.compile(r"(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?")
_METADATA = {"name": _NAME, "namespace": _NAME, "labels": {str: _LABEL}, "annotations": {str: str}}
_SECRET_KEY = {"name": str, "key": str, "optional": bool}

_ENDPOINT = {
    "port": str, "path": str, "interval": _DURATION, "scrapeTimeout": _DURATION, "scheme": re.compile("http|https"),
    "tlsConfig": {"insecureSkipVerify": bool},
    "relabelings": [{"sourceLabels": [str], "regex": str, "action": re.compile("keep")}],
    "authorization": {"type": str, "credentials": _SECRET_KEY},
}  # fmt: skip
_SELECTOR = {"matchLabels": {str: str}}
_POLICIES = {"stabilizationWindowSeconds": int, "selectPolicy": str,
             "policies": [{"type": re.compile("Pods|Percent"), "value": int, "periodSeconds": int}]}  # fmt: skip
_BEHAVIOUR = {"scaleUp": _POLICIES, "scaleDown": _POLICIES}
_TARGET = {"apiVersion": str, "kind": re.compile("Deployment|StatefulSet|LeaderWorkerSet"), "name": _NAME}
_RULE = {"alert": str, "expr": str, "for": _DURATION, "keep_firing_for": _DURATION, "labels": {str: str},
         "annotations": {str: str}}  # fmt: skip
_FORMAT = {"name": str, "version": str}

KINDS: dict[tuple[str, str], Any] = {
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector": _SELECTOR, "podTargetLabels": [str], "podMetricsEndpoints": [_ENDPOINT]},
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {
        "selector": _SELECTOR, "podTargetLabels": [str], "endpoints": [_ENDPOINT]},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "groups": [{"name": str, "interval": _DURATION, "rules": [_RULE]}]},
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef": _TARGET, "minReplicaCount": int, "maxReplicaCount": int, "pollingInterval": int,
        "cooldownPeriod": int, "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _BEHAVIOUR}},
        "triggers": [{"type": str, "name": str, "metricType": re.compile("AverageValue|Value|Utilization"),
                      "metadata": {str: str}}]},
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {
        "scaleTargetRef": _TARGET, "minReplicas": int, "maxReplicas": int, "behavior": _BEHAVIOUR,
        "metrics": [{"type": re.compile("Pods"), "pods": {
            "metric": {"name": str}, "target": {"type": re.compile("AverageValue"), "averageValue": str}}}]},
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): {
        "supportedModelFormats": [{**_FORMAT, "autoSelect": bool, "priority": int}], "multiModel": bool,
        "disabled": bool, "protocolVersions": [str], "labels": {str: _LABEL}, "annotations": {str: str}},
    ("serving.kserve.io/v1beta1", "InferenceService"): {"predictor": {
        "minReplicas": int, "maxReplicas": int, "timeout": int, "labels": {str: _LABEL}, "annotations": {str: str},
        "deploymentStrategy": {"type": str, "rollingUpdate": {str: int}},
        "model": {"modelFormat": _FORMAT, "runtime": str, "protocolVersion": str}}},
}  # fmt: skip
# What of a pod each may hold besides: a ServingRuntime these alone, an InferenceService's predictor all of a PodSpec.
RUNTIME_POD_FIELDS = {"containers", "volumes", "nodeSelector", "affinity", "tolerations", "imagePullSecrets", "hostIPC"}


def check_custom_resource(found: Mapping[str, Any], *, pod_fields: frozenset[str] = frozenset()) -> None:
    """Fail unless it is an object of a known kind with that kind's fields; `pod_fields` are checked elsewhere."""
    kind = KINDS[found["apiVersion"], found["kind"]]
    assert set(found) == {"apiVersion", "kind", "metadata", "spec"}
    check_kind(found["metadata"], _METADATA, "metadata")
    spec = dict(found["spec"])
    if found["kind"] == "InferenceService":
        assert set(spec) == {"predictor"}
        spec["predictor"] = {k: v for k, v in spec["predictor"].items() if k not in pod_fields}
    check_kind({k: v for k, v in spec.items() if k not in pod_fields}, kind, found["kind"])
