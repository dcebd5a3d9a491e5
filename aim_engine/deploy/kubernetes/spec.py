"""Plan → `ClusterSpec`: everything that the objects of a cluster say of it, decided and explained. Pure but for the
owners of this host's device files.

In: a plan, and what was asked besides. Out: one frozen value. Knows no key of the Kubernetes API.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from aim_engine.deploy.devices import access_of, device_groups
from aim_engine.deploy.images import image_name
from aim_engine.deploy.inside import MOUNTED, Mount, PassedVariable, model_place, visibility
from aim_engine.deploy.kubernetes.contradictions import check_variables, check_wishes, doubts
from aim_engine.deploy.kubernetes.demands import Cache, Demands, cache_of, demands_of
from aim_engine.deploy.kubernetes.names import (
    checked_name,
    checked_namespace,
    checked_reference,
    checked_variable,
    cluster_name,
)
from aim_engine.deploy.kubernetes.own_files import OwnFile, own_files
from aim_engine.deploy.kubernetes.rollout import Rollout, rollout_of
from aim_engine.deploy.kubernetes.startup import Startup, startup_of
from aim_engine.deploy.kubernetes.wishes import ClusterWishes
from aim_engine.deploy.names import checked_text, checked_user
from aim_engine.deploy.spec import ContainerSpec, container_spec, host_memory_bytes
from aim_engine.errors import InputError
from aim_engine.expected import expectation
from aim_engine.plan import Plan
from aim_engine.request import SETTINGS, Request

# The number that Debian and Ubuntu 22.04 mostly give the group `render`; it is no standard.
_RENDER_GROUP = 109
# Between a pod's deletion and the last proxy's hearing of it requests still come. Until they stop, it serves them.
_LEAVING_SECONDS = 10
_TLS_FOLDER = "/config/tls"
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """`container` is what would run in Docker too; `environment` are its variables with those that only a pod has.
    `leaving_seconds` pass between a deletion and SIGTERM, and `grace_seconds` from there to the end are SIGKILL's.
    `model` is where a claim of the user's is mounted; `hub_ports` are those that weights come from, none offline;
    `own_files` are recipe and card of the user's own.
    `warnings` are for the person who renders, `about` and `remarks` for the reader of the file.
    """

    container: ContainerSpec
    name: str
    namespace: str | None
    nodes: int
    replicas: int
    local_cache: bool
    environment: Mapping[str, str]
    secret: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    demands: Demands
    cache: Cache
    startup: Startup
    rollout: Rollout
    unconfined: bool
    leaving_seconds: int
    grace_seconds: int
    api_port: int
    health_port: int
    tls_secret: str | None
    pull_secret: str | None
    model: Mount | None
    model_claim: str | None
    hub_ports: tuple[int, ...]
    own_files: tuple[OwnFile, ...]
    about: tuple[str, ...]
    warnings: tuple[str, ...]
    most_replicas: int | None
    prometheus: str
    monitor_labels: Mapping[str, str]

    @property
    def selector(self) -> dict[str, str]:
        """The labels by which the pods are found; they can never change."""
        return {"app.kubernetes.io/name": "aim-engine", "app.kubernetes.io/instance": self.name}

    @property
    def labels(self) -> dict[str, str]:
        return {
            **self.selector,
            "app.kubernetes.io/component": "inference",
            "app.kubernetes.io/managed-by": "aim-engine",
        }

    @property
    def scheme(self) -> str:
        return "https" if self.tls_secret else "http"


def cluster_spec(plan: Plan, wishes: ClusterWishes) -> ClusterSpec:
    """The pods that serve the plan.

    Raises:
        InputError: a wish cannot be fulfilled, or the plan needs what only this machine has.
    """
    _check_paths(plan.request, wishes)
    name = checked_name(wishes.name) if wishes.name is not None else cluster_name(plan)
    groups, guessed = _groups(plan, wishes)
    container = container_spec(
        plan,
        image=image_name(plan, wishes.image),
        groups=groups,
        shm_bytes=wishes.shm_bytes,
        extra=wishes.extra,
    )
    rollout = rollout_of(plan, wishes)
    startup = startup_of(plan, wishes.pace, downloads=not plan.request.offline and plan.request.model_folder is None)
    check_wishes(plan, wishes, shm_bytes=container.shm_bytes, startup=startup)
    check_variables(wishes, [one.name for one in container.passed], nodes=plan.winner.nodes)
    several = plan.winner.nodes > 1 or wishes.replicas > 1
    many_nodes = not wishes.local_cache and (several or (rollout.surge and not rollout.same_node))
    uid, gid = _user(wishes.user)
    files = own_files(plan)
    passed = {one.name: one for one in (*container.passed, *(_named(one) for one in wishes.named))}
    return ClusterSpec(
        container=replace(container, passed=tuple(passed.values())),
        name=name,
        namespace=None if wishes.namespace is None else checked_namespace(wishes.namespace),
        nodes=plan.winner.nodes,
        replicas=wishes.replicas,
        local_cache=wishes.local_cache,
        environment=_environment(plan, container, startup, wishes, files),
        secret=_reference("--secret", wishes.secret) or f"{name}-secrets",
        uid=uid,
        gid=gid,
        groups=groups,
        demands=demands_of(plan, wishes, shm_bytes=container.shm_bytes, planned_bytes=host_memory_bytes(plan)),
        cache=cache_of(plan, _checked_claims(wishes, plan.winner.nodes), name, many_nodes=many_nodes),
        startup=startup,
        rollout=rollout,
        unconfined=wishes.unconfined,
        leaving_seconds=_LEAVING_SECONDS,
        grace_seconds=_LEAVING_SECONDS + container.stop_seconds,
        api_port=plan.request.port,
        health_port=plan.request.health_port,
        tls_secret=_reference("--tls-secret", wishes.tls_secret),
        pull_secret=_reference("--pull-secret", wishes.pull_secret),
        model=model_place(plan.request)[1],
        model_claim=_reference("--model-claim", wishes.model_claim),
        hub_ports=tuple(_hub_ports(plan.request, wishes)),
        own_files=files,
        about=container.about,
        warnings=(*_warnings(container.image, guessed), *doubts(plan, wishes)),
        most_replicas=wishes.most_replicas,
        prometheus=wishes.prometheus,
        monitor_labels=wishes.monitor_labels,
    )


def _check_paths(request: Request, wishes: ClusterWishes) -> None:
    """Files and folders of this machine are in no cluster: each has another way there.

    Raises:
        InputError: one of them is named without it.
    """
    if request.model_folder is not None and wishes.model_claim is None:
        raise InputError(
            f"{request.model}: a folder of this machine is not in the cluster",
            hint="copy it to a PersistentVolume, and name its claim with --model-claim",
        )
    if request.model_folder is None and wishes.model_claim is not None:
        raise InputError("--model-claim is for a model's folder", hint="leave it out: weights come into the cache")
    for field, remedy in _ELSEWHERE.items():
        typed = field != "cache_dir" or request.origins.get(field) == "flag"
        if getattr(request, field) is not None and typed:
            flag = "--" + field.replace("_", "-")
            raise InputError(
                f"{flag} {getattr(request, field)}: a path of this machine is not in the cluster", hint=remedy
            )


_ELSEWHERE = {
    "cache_dir": "name a claim with --cache-claim, or a class with --storage-class",
    "tls_cert": "kubectl create secret tls NAME --cert FILE --key FILE, and --tls-secret NAME",
    "tls_key": "kubectl create secret tls NAME --cert FILE --key FILE, and --tls-secret NAME",
    "log_dir": "leave it out: kubectl logs has all that is written",
}


def _environment(
    plan: Plan, container: ContainerSpec, startup: Startup, wishes: ClusterWishes, files: tuple[OwnFile, ...]
) -> dict[str, str]:
    """The variables of a container, but for what is this machine's alone, and a pod's own."""
    there = {one.field for one in files}
    gone = {setting.variable for setting in SETTINGS if setting.field in MOUNTED and setting.field not in there}
    gone |= visibility(plan).keys() - wishes.extra.keys()  # it sees its own GPUs, and counts them from 0
    found = {name: text for name, text in container.environment.items() if name not in gone}
    found["AIM_START_TIMEOUT"] = str(startup.cold_seconds)
    found["AIM_EXPECT_PLAN"] = json.dumps(expectation(plan), separators=(",", ":"), ensure_ascii=False)
    asked_for = plan.request.model_folder is None and plan.checkpoint == plan.model
    if plan.revision and asked_for and "revision" not in plan.winner.variant.args:
        found["AIM_REVISION"] = plan.revision  # the commit that the plan's numbers are from
    if wishes.tls_secret is not None:
        found |= {"AIM_TLS_CERT": f"{_TLS_FOLDER}/tls.crt", "AIM_TLS_KEY": f"{_TLS_FOLDER}/tls.key"}
    return {
        checked_variable(name): checked_text(text, "a manifest is", "give a text in UTF-8")
        for name, text in found.items()
    }


def _named(name: str) -> PassedVariable:
    return PassedVariable(name=checked_variable(name), required=True)


def _groups(plan: Plan, wishes: ClusterWishes) -> tuple[tuple[int, ...], bool]:
    """The numbers of the group that the device files belong to on the nodes, and whether they are only guessed."""
    if not access_of(plan).cluster_resource:
        return (), False
    if wishes.groups:
        return wishes.groups, False
    known = device_groups(plan)
    return (known, False) if known else ((_RENDER_GROUP,), True)


def _user(text: str) -> tuple[int, int]:
    uid, _, gid = str(checked_user(text)).partition(":")
    if int(uid) == 0:
        raise InputError("--user 0: the pods do not run as root", hint="use any other number: 1000:1000")
    return int(uid), int(gid or uid)


def _checked_claims(wishes: ClusterWishes, nodes: int) -> ClusterWishes:
    _reference("--cache-claim", wishes.claim)
    _reference("--storage-class", wishes.storage_class)
    if nodes > 1 and wishes.local_cache:
        hint = "name a class or a claim that several nodes can mount (--storage-class, --cache-claim)"
        raise InputError("--local-cache is for pods that serve alone, and --nodes is of several together", hint=hint)
    if wishes.claim is not None and wishes.local_cache:
        raise InputError("--cache-claim is one for all pods, and with --local-cache each has its own",
                         hint="leave one of them out")  # fmt: skip
    return wishes


def _reference(flag: str, name: str | None) -> str | None:
    return None if name is None else checked_reference(flag, name)


def _hub_ports(request: Request, wishes: ClusterWishes) -> Iterator[int]:
    """The ports behind which weights are, or a proxy."""
    if request.offline:
        return
    # one whose value is in the secret: the same as here, most likely, if it is set here
    named = {name: request.environment.get(name, "") for name in wishes.named}
    addresses = [request.environment.get("HF_ENDPOINT", "")]
    addresses += [wishes.extra.get(name, "") or named.get(name, "") for name in _PROXIES]
    ports = [443]
    for address in filter(None, addresses):
        try:
            parts = urlsplit(address)
            ports.append(parts.port or _PORTS.get(parts.scheme, 443))
        except ValueError:  # a port that is none: the hub's client will say so
            continue
    yield from dict.fromkeys(ports)


def _warnings(image: str, guessed: bool) -> Iterator[str]:
    if "/" not in image:
        yield (f"the image {image} is in no registry, and nodes that do not have it cannot pull it: push it, and name "
               "it with --image or AIM_ENGINE_REGISTRY")  # fmt: skip
    if guessed:
        yield (f"the number of the group that owns /dev/kfd on the nodes is not known here, and {_RENDER_GROUP} is "
               "taken: stat -c %g /dev/kfd on a node says it, --render-group sets it")  # fmt: skip
