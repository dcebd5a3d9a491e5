"""ClusterSpec → the template of its pods. Pure: values in, a map with the keys of the Kubernetes API out."""

from __future__ import annotations

from typing import Any

from aim_engine.deploy.inside import API_PORT, CACHE_FOLDER, HEALTH_PORT, MOUNTED
from aim_engine.deploy.kubernetes.manifest import GIB, Manifest, escaped, given, quantity
from aim_engine.deploy.kubernetes.own_files import digest
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.spec import LABEL
from aim_engine.deploy.yaml_text import Note

# Names that others refer to: a pod's ports, its one container, its volumes.
API, HEALTH = "api", "health"
CONTAINER = "inference"
CACHE_VOLUME = "cache"
_MODEL_VOLUME, _TLS_VOLUME = "model", "tls"
# The volume for the files of each setting that names a folder of the user's own.
_FILE_VOLUMES = {"recipes_dir": "recipes", "models_dir": "models"}
_TEMPORARY_BYTES = 16 * GIB

_PERIOD_SECONDS = 10
# A sidecar on a machine whose processors are all busy may take seconds; Kubernetes' default is one.
_TIMEOUT_SECONDS = 5
_HOST_NAME = "kubernetes.io/hostname"


def pod_template(spec: ClusterSpec) -> Manifest:
    """What a Deployment and a StatefulSet are made of alike."""
    metadata: Manifest = {"labels": spec.labels}
    if spec.own_files:
        # or pods would not be replaced when the files in their ConfigMap are others
        metadata["annotations"] = {f"{LABEL}files": digest(spec.own_files)}
    return {"metadata": metadata, "spec": _pod(spec)}


def files_name(spec: ClusterSpec) -> str:
    """The ConfigMap with the user's own recipe and card."""
    return f"{spec.name}-files"


def _pod(spec: ClusterSpec) -> Manifest:
    demands = spec.demands
    return given({
        "serviceAccountName": spec.name,
        "automountServiceAccountToken": False,
        Note("or Kubernetes would set a variable for every Service of the namespace: VLLM_PORT=tcp://... where one is "
             "called vllm"): None,
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": spec.pull_secret}] if spec.pull_secret else [],
        Note(f"{spec.leaving_seconds} s until nobody sends requests any more, AIM_DRAIN_TIMEOUT for those in flight, "
             "and 30 s for the processes' end"): None,
        "terminationGracePeriodSeconds": spec.grace_seconds,
        **_security(spec),
        **_placement(spec),
        "tolerations": [{"key": demands.toleration, "operator": "Exists", "effect": "NoSchedule"}]
        if demands.toleration else [],
        "containers": [_container(spec)],
        "volumes": _volumes(spec),
    })  # fmt: skip


def _security(spec: ClusterSpec) -> Manifest:
    words: Manifest = {
        "runAsNonRoot": True,
        "runAsUser": spec.uid,
        "runAsGroup": spec.gid,
        Note(
            "the volumes' group, so that this user may write them; where a volume does not heed it (some NFS), it "
            "must be writable for the user already"
        ): None,
        "fsGroup": spec.gid,
        "fsGroupChangePolicy": "OnRootMismatch",
        **_seccomp(spec),
    }
    if spec.groups:
        why = ("the group that owns /dev/kfd and /dev/dri/renderD* on the nodes. Its number differs from host to host: "
               "stat -c %g /dev/kfd. Where nodes differ, list all of them (--render-group, several times)")  # fmt: skip
        words |= {Note(why): None, "supplementalGroups": list(spec.groups)}
    return {"securityContext": words}


def _seccomp(spec: ClusterSpec) -> Manifest:
    if spec.unconfined:
        return {Note("no namespace with the Pod Security Standard restricted or baseline takes it"): None,
                "seccompProfile": {"type": "Unconfined"}}  # fmt: skip
    return {"seccompProfile": {"type": "RuntimeDefault"}}


def _placement(spec: ClusterSpec) -> Manifest:
    """Which nodes, and where beside each other."""
    found: Manifest = {}
    affinity: Manifest = {}
    if spec.demands.labels:
        expressions = [{"key": key, "operator": "In", "values": list(values)} for key, values in spec.demands.labels]
        found |= {Note(remark): None for remark in spec.demands.remarks}
        affinity["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
        }
    if _stays_on_its_node(spec):
        affinity[Note("beside the pod that it takes the place of: its volume is that node's")] = None
        affinity["podAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": _HOST_NAME, "labelSelector": {"matchLabels": spec.selector}}]}  # fmt: skip
    if affinity:
        found["affinity"] = affinity
    if spec.replicas > 1:
        found["topologySpreadConstraints"] = [{
            "maxSkew": 1, "topologyKey": _HOST_NAME, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": spec.selector}}]  # fmt: skip
    return found


def _stays_on_its_node(spec: ClusterSpec) -> bool:
    return spec.rollout.surge and spec.rollout.same_node and spec.cache.made


def _container(spec: ClusterSpec) -> Manifest:
    container = spec.container
    return {
        "name": CONTAINER,
        "image": container.image,
        "imagePullPolicy": "IfNotPresent",
        "args": [escaped(word) for word in container.arguments],
        Note("AIM_RECIPE and AIM_EXPECT_PLAN: in the pod it is planned again, for what is there; another plan than "
             "this one ends it with exit code 10 and says what is different"): None,
        Note(f"the secret {spec.secret} is read when the pod starts; see the top for how it is made"): None,
        "env": [*_variables(spec), *_secrets(spec)],
        "ports": [_port(API, API_PORT), _port(HEALTH, HEALTH_PORT)],
        **_probes(spec),
        Note("SIGTERM comes when the pod is marked, not when the last proxy has heard of it. Requests of that moment "
             "are served; later ones would be answered 503, and those in flight are finished in any case"): None,
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(spec.leaving_seconds)]}}},
        Note(spec.demands.memory_remark): None,
        Note("no limit of processors: where one is, the engine stands still whenever it is used up"): None,
        "resources": _resources(spec),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": list(container.capabilities_dropped)},
        },
        Note("the last words of a failure, as JSON: kubectl get pod -o yaml, under lastState"): None,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(spec),
    }  # fmt: skip


def _variables(spec: ClusterSpec) -> list[Manifest]:
    return [{"name": name, "value": escaped(text)} for name, text in spec.environment.items()]


def _secrets(spec: ClusterSpec) -> list[Manifest]:
    return [
        {"name": one.name, "valueFrom": {"secretKeyRef": {"name": spec.secret, "key": one.name,
                                                          "optional": not one.required}}}
        for one in spec.container.passed
    ]  # fmt: skip


def _port(name: str, number: int) -> Manifest:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


# A hung engine: of a pod that serves alone, and of one among several.
_WHO_RESTARTS = (
    "A hung engine is started again inside; the kubelet comes in where that has not helped for half a minute",
    "A hung engine ends its pod, and the group starts again together",
)


def _probes(spec: ClusterSpec) -> Manifest:
    """All three ask the sidecar, which answers from the first seconds on, whatever the engine does."""
    seconds = spec.startup.probe_seconds
    notes = [Note(f"startupProbe: {sentence}") for sentence in spec.startup.sentences()]
    return {
        **dict.fromkeys(notes),
        "startupProbe": _probe("startup", _PERIOD_SECONDS, -(-seconds // _PERIOD_SECONDS)),
        Note(
            "livenessProbe: fails on the verdict of hung or dead alone; busy is not hung (AIM_HANG_TIMEOUT). "
            f"{_WHO_RESTARTS[spec.nodes > 1]}"
        ): None,
        "livenessProbe": _probe("live", _PERIOD_SECONDS, 3),
        Note("readinessProbe: 200 once a real request for one token was answered"): None,
        "readinessProbe": _probe("ready", 5, 2),
    }


def _probe(route: str, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": f"/health/{route}", "port": HEALTH, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": _TIMEOUT_SECONDS,
        "failureThreshold": failures,
    }


def _resources(spec: ClusterSpec) -> Manifest:
    demands = spec.demands
    devices = {demands.resource: str(demands.count)} if demands.resource else {}
    return {
        "requests": {"cpu": str(demands.cpus), "memory": quantity(demands.memory_bytes), **devices},
        "limits": {"memory": quantity(demands.memory_limit_bytes), **devices},
    }


def _mounts(spec: ClusterSpec) -> list[Manifest]:
    found: list[dict[str, Any]] = [
        {"name": CACHE_VOLUME, "mountPath": CACHE_FOLDER},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if spec.model is not None:
        found.append({"name": _MODEL_VOLUME, "mountPath": spec.model.target, "readOnly": True})
    found += [{"name": _FILE_VOLUMES[one.field], "mountPath": MOUNTED[one.field], "readOnly": True}
              for one in spec.own_files]  # fmt: skip
    if spec.tls_secret is not None:
        found.append({"name": _TLS_VOLUME, "mountPath": "/config/tls", "readOnly": True})
    return found


def _volumes(spec: ClusterSpec) -> list[Manifest]:
    """All that is written lies in these: the root is read-only. A StatefulSet's cache comes from its own template."""
    found: list[dict[str, Any]] = []
    if not spec.local_cache:
        found.append({"name": CACHE_VOLUME, "persistentVolumeClaim": {"claimName": spec.cache.claim}})
    found += [
        {"name": "tmp", "emptyDir": {"sizeLimit": quantity(_TEMPORARY_BYTES)}},
        {"name": "shm", Note("what the runtime gives, 64 MB, would not do: each of vLLM's workers keeps 240 MiB of "
                             "ring buffers there, and RCCL its own"): None,
         "emptyDir": {"medium": "Memory", "sizeLimit": quantity(spec.container.shm_bytes)}},
    ]  # fmt: skip
    if spec.model is not None:
        found.append({"name": _MODEL_VOLUME, Note("what this claim holds is the model's folder"): None,
                      "persistentVolumeClaim": {"claimName": spec.model_claim, "readOnly": True}})  # fmt: skip
    found += [{"name": _FILE_VOLUMES[one.field],
               "configMap": {"name": files_name(spec), "items": [{"key": one.key, "path": one.path}]}}
              for one in spec.own_files]  # fmt: skip
    if spec.tls_secret is not None:
        found.append({"name": _TLS_VOLUME, "secret": {"secretName": spec.tls_secret, "defaultMode": 0o440}})
    return found
