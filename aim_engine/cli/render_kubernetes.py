"""The flags of `render kubernetes`, and how a plan becomes objects of a cluster with them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aim_engine.cli.container_flags import replicas_typed, size_typed, variables_typed, variables_written
from aim_engine.errors import InputError
from aim_engine.values import RefusedError, integer

if TYPE_CHECKING:
    from aim_engine.cli.render import Rendered
    from aim_engine.deploy.kubernetes.wishes import ClusterWishes
    from aim_engine.plan import Plan

SUMMARY = "objects of a Kubernetes cluster, for `kubectl apply`"
EXAMPLES = """examples:
  aim-engine render kubernetes Qwen/Qwen3-32B --hardware MI300X:8 --gpus 4 --image r.example/aim:1 | kubectl apply -f -
                                                              one stream: Deployment, Service, cache and all
  aim-engine render kubernetes Qwen/Qwen3-32B --hardware MI300X:8 --image r.example/aim:1 -o qwen
  kubectl apply -k qwen/base                                  a kustomize folder: a base, and overlays
  aim-engine render kubernetes Qwen/Qwen3-32B --hardware MI300X:8 --gpus 4 --replicas 4 --local-cache -o qwen.yaml
                                                              four pods, each with a cache of its own

--hardware is one node of the cluster; each pod has --gpus of its GPUs. --port and --health-port are the Service's;
inside, the API is at 8000 and the health sidecar at 8080. AIM_API_KEY and HF_TOKEN come from a secret, as the file
says. --env NAME without a value takes the variable from there too. docs/kubernetes.md explains every field.
"""
_MOST_SECONDS, _MOST_GPUS, _MOST_CPUS = 86_400, 4096, 1024
_LARGEST_GROUP = 2**31 - 1


def add_flags(parser: argparse.ArgumentParser) -> None:
    _add_pod_flags(parser.add_argument_group("the pods"))
    _add_component_flags(parser.add_argument_group("what is added by --with"))
    _add_storage_flags(parser.add_argument_group("storage and secrets, by their names in the cluster"))
    speed = parser.add_argument_group("what a start is reckoned with")
    speed.add_argument("--network-speed", metavar="SIZE", help="bytes a second from the hub [default 100 MB: 100000k]")
    speed.add_argument("--disk-speed", metavar="SIZE", help="bytes a second from the cache [default 300 MB]")
    speed.add_argument("--compile-time", metavar="SECONDS", help="compiling and capturing graphs [default by the plan]")


def _add_pod_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--image", help="the image to run [default aim-engine-unified, from AIM_ENGINE_REGISTRY]")
    group.add_argument("--name", help="what the objects are called [default made from the plan]")
    group.add_argument("--namespace", metavar="NAME", help="where they are [default wherever kubectl is]")
    group.add_argument("--replicas", metavar="N", help="so many pods [default 1]")
    group.add_argument("--local-cache", action="store_true", help="a StatefulSet whose pods have a cache each")
    group.add_argument("--with", dest="components", action="append", default=[], metavar="COMPONENT",
                       help=_components_in_words())  # fmt: skip
    group.add_argument("--spare-gpus", metavar="N",
                       help="GPUs of the cluster that are free besides [default what a node has left]")  # fmt: skip
    group.add_argument("--resource-naming", choices=("single", "mixed"), default="single",
                       help="the device plugin's strategy [default single: amd.com/gpu, parts too]")  # fmt: skip
    group.add_argument("--render-group", action="append", default=[], metavar="GID",
                       help="the group of /dev/kfd on the nodes, by number; may be given several times")  # fmt: skip
    group.add_argument("--user", metavar="UID[:GID]", help="whom they run as [default 65532:65532]")
    group.add_argument("--seccomp", choices=("runtime-default", "unconfined"), default="runtime-default",
                       help="the profile of system calls [default runtime-default]")  # fmt: skip
    group.add_argument("--cpus", metavar="N", help="processors that a pod asks for [default 4 a GPU]")
    group.add_argument("--memory", metavar="SIZE", help="memory of a pod [default from the plan]")
    group.add_argument("--shm-size", metavar="SIZE", help="size of /dev/shm [default from the plan]")
    group.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]",
                       help="a further variable; without a value from the secret")  # fmt: skip


def _add_component_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-replicas", metavar="N",
                       help="autoscaled: at most so many pods [default twice --replicas, or 4]")  # fmt: skip
    group.add_argument("--prometheus", metavar="URL",
                       help="autoscaled-keda: its address [default prometheus-operated in monitoring]")  # fmt: skip
    group.add_argument("--monitor-label", action="append", default=[], metavar="NAME=VALUE",
                       help="monitored: a label by which a Prometheus chooses; may be repeated")  # fmt: skip


def _add_storage_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--cache-size", metavar="SIZE", help="size of the cache's volume [default from the weights]")
    group.add_argument("--cache-claim", metavar="NAME", help="a PersistentVolumeClaim that is there already")
    group.add_argument("--storage-class", metavar="NAME", help="the class of the volume [default the cluster's]")
    group.add_argument("--model-claim", metavar="NAME", help="the claim that holds MODEL's folder, where MODEL is one")
    group.add_argument(
        "--secret", metavar="NAME", help="the secret with HF_TOKEN and AIM_API_KEY [default NAME-secrets]"
    )
    group.add_argument("--tls-secret", metavar="NAME", help="a secret of type tls: the API then speaks HTTPS")
    group.add_argument("--pull-secret", metavar="NAME", help="the secret of the image's registry")


def _components_in_words() -> str:
    from aim_engine.deploy.kubernetes.components import COMPONENTS

    listed = "; ".join(f"{one.name}: {one.summary}" for one in COMPONENTS) or "there is none yet"
    return f"a component to add, may be given several times ({listed})".replace("%", "%%")


def overlay_names() -> tuple[str, ...]:
    """All that a folder may have, of this command's."""
    from aim_engine.deploy.kubernetes.components import COMPONENTS
    from aim_engine.deploy.kubernetes.files import EVERYTHING

    return (*(one.name for one in COMPONENTS), EVERYTHING)


def render(plan: Plan, arguments: argparse.Namespace) -> Rendered:
    """The stream, the same for programs, and the files of a folder.

    Raises:
        InputError: a wish cannot be fulfilled.
    """
    from aim_engine.cli.render import Rendered
    from aim_engine.deploy.kubernetes.components import COMPONENTS, components_named
    from aim_engine.deploy.kubernetes.files import kustomize_files, list_document, stream_text
    from aim_engine.deploy.kubernetes.spec import cluster_spec

    spec = cluster_spec(plan, wishes_typed(arguments))
    chosen = components_named(arguments.components)
    return Rendered(
        text=stream_text(spec, chosen),
        document=list_document(spec, chosen),
        files=kustomize_files(spec, chosen or COMPONENTS),
        warnings=spec.warnings,
    )


def wishes_typed(arguments: argparse.Namespace) -> ClusterWishes:
    """What the flags ask for.

    Raises:
        InputError: something cannot be used.
    """
    from aim_engine.deploy.kubernetes.names import checked_address, checked_label
    from aim_engine.deploy.kubernetes.wishes import DEFAULT_PROMETHEUS, DEFAULT_USER, ClusterWishes, Pace

    pace = Pace()
    return ClusterWishes(
        image=arguments.image,
        name=arguments.name,
        namespace=arguments.namespace,
        replicas=replicas_typed(arguments),
        local_cache=arguments.local_cache,
        spare_gpus=_number(arguments.spare_gpus, "--spare-gpus", 0, _MOST_GPUS),
        user=arguments.user or DEFAULT_USER,
        groups=tuple(_number(text, "--render-group", 1, _LARGEST_GROUP) or 0 for text in arguments.render_group),
        naming=arguments.resource_naming,
        unconfined=arguments.seccomp == "unconfined",
        cpus=_number(arguments.cpus, "--cpus", 1, _MOST_CPUS),
        memory_bytes=size_typed(arguments.memory, "--memory"),
        shm_bytes=size_typed(arguments.shm_size, "--shm-size"),
        cache_bytes=size_typed(arguments.cache_size, "--cache-size"),
        claim=arguments.cache_claim,
        storage_class=arguments.storage_class,
        model_claim=arguments.model_claim,
        secret=arguments.secret,
        tls_secret=arguments.tls_secret,
        pull_secret=arguments.pull_secret,
        extra=variables_written(arguments.env),
        named=tuple(variables_typed([word], {word: ""}).popitem()[0] for word in arguments.env if "=" not in word),
        pace=Pace(
            network=size_typed(arguments.network_speed, "--network-speed") or pace.network,
            disk=size_typed(arguments.disk_speed, "--disk-speed") or pace.disk,
            compile_seconds=_number(arguments.compile_time, "--compile-time", 0, _MOST_SECONDS),
        ),
        most_replicas=_number(arguments.max_replicas, "--max-replicas", 1, _MOST_GPUS),
        prometheus=checked_address("--prometheus", arguments.prometheus or DEFAULT_PROMETHEUS),
        monitor_labels=dict(checked_label("--monitor-label", one) for one in arguments.monitor_label),
    )


def _number(text: str | None, flag: str, low: int, high: int) -> int | None:
    if text is None:
        return None
    try:
        found = integer(low, high)(text)
    except RefusedError as refusal:
        raise InputError(f"{flag} {text[:40]!r} is not legal", hint=f"{refusal}") from None
    return int(found) if found is not None else None
