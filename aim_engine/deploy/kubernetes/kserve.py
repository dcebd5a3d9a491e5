"""ClusterSpec → the same pods for KServe: a ServingRuntime (serving.kserve.io/v1alpha1), an InferenceService (v1beta1)
that uses it, and what they need besides. Pure.

The runtime says how the container is run; the service that one is wanted, and all of the pod for which a runtime has no
field (kserve/kserve, pkg/apis/serving/v1alpha1/servingruntime_types.go: ServingRuntimePodSpec). There is no storageUri:
the weights come as everywhere else, from the hub into the cache's volume.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from aim_engine.deploy.kubernetes.manifest import Manifest, manifest, with_notes
from aim_engine.deploy.kubernetes.names import LONGEST
from aim_engine.deploy.kubernetes.objects import base_objects, strategy
from aim_engine.deploy.kubernetes.pieces import Pieces
from aim_engine.deploy.kubernetes.pod import pod_template
from aim_engine.deploy.kubernetes.rollout import while_scaled
from aim_engine.deploy.kubernetes.scaling import limits
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.names import container_name
from aim_engine.deploy.yaml_text import Note
from aim_engine.errors import InputError
from aim_engine.plan import Plan

CONTAINER = "kserve-container"  # the one that KServe merges and routes to
FORMAT = {"name": "aim-engine", "version": "1"}
_RUNTIME_FIELDS = ("volumes", "nodeSelector", "affinity", "tolerations", "imagePullSecrets", "hostIPC")
# What of the objects of a Deployment serves pods of KServe's as well; Services and the Deployment are KServe's to make.
_KEPT = ("ServiceAccount", "PersistentVolumeClaim", "NetworkPolicy", "PodDisruptionBudget")
# kserve/kserve, pkg/apis/serving/v1beta1: IsvcNameFmt; what it makes is called NAME-predictor, and its host's first
# label NAME-predictor-NAMESPACE
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_LONGEST_LABEL = 63
_SUFFIX = "-predictor"


def kserve_objects(spec: ClusterSpec, pieces: Sequence[Pieces] = ()) -> tuple[Manifest, ...]:
    """All that serves the plan there; of what is added, objects that scale scale KServe's Deployment.

    Raises:
        InputError: KServe cannot serve it so.
    """
    _check(spec)
    added = [one for each in pieces for one in each.objects]
    scales = any("scaleTargetRef" in one.get("spec", {}) for one in added)
    if scales:  # then pods are on several nodes
        rollout = while_scaled(spec.rollout, on_devices=spec.demands.resource is not None)
        spec = replace(spec, cache=replace(spec.cache, many_nodes=True), rollout=rollout)
    kept = [one for one in base_objects(spec) if one["kind"] in _KEPT]
    return (*kept, _runtime(spec), _service(spec, scales=scales), *(_retargeted(one, spec) for one in added))


def service_name(plan: Plan, namespace: str | None) -> str:
    """What it is called unless somebody says otherwise."""
    longest = min(_longest_name(namespace), LONGEST)
    return container_name(plan, longest=longest)[: max(longest, 1)].rstrip("-")


def _longest_name(namespace: str | None) -> int:
    return _LONGEST_LABEL - len(_SUFFIX) - (len(namespace) + 1 if namespace else 0)


def _check(spec: ClusterSpec) -> None:
    if spec.nodes > 1:
        raise InputError(
            f"an InferenceService cannot hold a model over {spec.nodes} nodes",
            hint="render kubernetes writes a LeaderWorkerSet, whose pods start and end together",
        )
    if spec.local_cache:
        raise InputError(
            "KServe makes Deployments, whose pods cannot have a cache each",
            hint="leave --local-cache out; a class that several nodes can mount does (--storage-class)",
        )
    longest = _longest_name(spec.namespace)
    if longest < 1:
        raise InputError(
            f"--namespace {spec.namespace!r} leaves no room for a name: KServe's host has both and {_SUFFIX} in one "
            f"label, of {_LONGEST_LABEL} characters",
            hint=f"use a namespace of a shorter name, up to {_LONGEST_LABEL - len(_SUFFIX) - 2} in all",
        )
    if not _NAME.fullmatch(spec.name) or len(spec.name) > longest:
        raise InputError(
            f"{spec.name!r} cannot be the name of an InferenceService: its host's would be too long",
            hint=f"--name with lower-case letters, digits and '-', beginning with a letter, {longest} in all",
        )


def _runtime(spec: ClusterSpec) -> Manifest:
    template = pod_template(spec)
    container, *others = template["spec"]["containers"]
    runtime, _ = _divided(template["spec"])
    return manifest(
        "serving.kserve.io/v1alpha1", "ServingRuntime", spec.name, namespace=spec.namespace, labels=spec.labels, spec={
            Note("not chosen by itself: it serves one model, on the GPUs that were planned for"): None,
            "supportedModelFormats": [{**FORMAT, "autoSelect": False}],
            "multiModel": False,
            "labels": template["metadata"]["labels"],
            "containers": [{**container, "name": CONTAINER}, *others],
            **runtime,
        },
    )  # fmt: skip


def _service(spec: ClusterSpec, *, scales: bool) -> Manifest:
    """A plain Deployment: Knative would neither mount several volumes nor wait for a start. KServe's own autoscaling
    goes by CPU, which says nothing of a GPU's load, so somebody else does it, or nobody.
    """
    _, elsewhere = _divided(pod_template(spec)["spec"])
    least, most = limits(spec) if scales else (spec.replicas, spec.replicas)
    fixed = spec.replicas > 1 and not scales
    return manifest(
        "serving.kserve.io/v1beta1", "InferenceService", spec.name, namespace=spec.namespace, labels=spec.labels,
        annotations={
            # called Standard since 0.16, which takes this name too; none is newer than external, and sets the number
            "serving.kserve.io/deploymentMode": "RawDeployment",
            "serving.kserve.io/autoscalerClass": "none" if fixed else "external",
        },
        spec={"predictor": {
            "minReplicas": least,
            "maxReplicas": most,
            Note("KServe has no field for a Deployment's progressDeadlineSeconds, which then is 600: after ten minutes "
                 "the service is called not ready. Its pods go on starting, and are served once they are"): None,
            Note(spec.rollout.why): None,
            "deploymentStrategy": strategy(spec.rollout),
            **elsewhere,
            "model": {"modelFormat": FORMAT, "runtime": spec.name},
        }},
    )  # fmt: skip


def _divided(pod: Manifest) -> tuple[Manifest, Manifest]:
    """What a runtime has fields for, and the rest without the containers; a note stays with the field below it."""
    runtime: Manifest = {}
    rest: Manifest = {}
    for field, notes in with_notes(pod):
        if field != "containers":
            part = runtime if field in _RUNTIME_FIELDS else rest
            part |= dict.fromkeys(notes)
            part[field] = pod[field]
    return runtime, rest


def _retargeted(one: Manifest, spec: ClusterSpec) -> Manifest:
    if one["kind"] == "ServiceMonitor":
        raise InputError("KServe's Services have other labels", hint="--with monitored finds the pods themselves")
    if "scaleTargetRef" not in one.get("spec", {}):
        return one
    target = {**one["spec"]["scaleTargetRef"], "name": f"{spec.name}{_SUFFIX}"}
    return {**one, "spec": {**one["spec"], "scaleTargetRef": target}}
