"""What can be added to the objects that serve a plan: a ClusterSpec in, further objects and changes of the base out.

Each component is an overlay of its own in a kustomize folder, and is added to a single stream by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aim_engine.deploy.kubernetes.manifest import Manifest, merged
from aim_engine.deploy.kubernetes.monitoring import monitored, service_monitored
from aim_engine.deploy.kubernetes.pieces import Pieces
from aim_engine.deploy.kubernetes.scaling import autoscaled, autoscaled_by_keda
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Component:
    """`name` is the overlay's folder and the word for --with; `summary` one clause of what it does, for help and for
    its kustomization.yaml. One that does the same as another, otherwise, names it in `instead_of`.
    """

    name: str
    summary: str
    make: Callable[[ClusterSpec], Pieces]
    instead_of: str = ""


# A further component is a line here; its objects and patches are a module of its own beside this one.
COMPONENTS: tuple[Component, ...] = (
    Component(
        name="monitored",
        summary="PodMonitors, alerts and a Grafana dashboard, for Prometheus' operator",
        make=monitored,
    ),
    Component(
        name="service-monitored",
        summary="the same with ServiceMonitors",
        make=service_monitored,
        instead_of="monitored",
    ),
    Component(
        name="autoscaled",
        summary="a HorizontalPodAutoscaler by waiting requests and KV cache, through prometheus-adapter",
        make=autoscaled,
    ),
    Component(
        name="autoscaled-keda",
        summary="the same by KEDA, which asks Prometheus itself",
        make=autoscaled_by_keda,
        instead_of="autoscaled",
    ),
)


def components_named(names: Iterable[str]) -> tuple[Component, ...]:
    """The components of these names, each once.

    Raises:
        InputError: there is none of that name, or two of them do the same.
    """
    by_name = {one.name: one for one in COMPONENTS}
    found = dict.fromkeys(names)
    for name in found:
        if name not in by_name:
            raise InputError(f"--with {name[:80]!r}: there is no such component", hint=f"use {', '.join(by_name)}")
    for name in found:
        other = by_name[name].instead_of
        if other in found:
            raise InputError(f"--with {other} and --with {name} do the same", hint="leave one of them out")
    return tuple(by_name[name] for name in found)


def with_pieces(base: Sequence[Manifest], pieces: Iterable[Pieces]) -> tuple[Manifest, ...]:
    """The base with the patches laid over it, and the further objects behind it."""
    objects = list(base)
    for one in pieces:
        objects = [_patched(each, one.patches) for each in objects] + list(one.objects)
    return tuple(objects)


def _patched(base: Manifest, patches: Iterable[Manifest]) -> Manifest:
    for patch in patches:
        if _identity(patch) == _identity(base):
            base = merged(base, patch)
    return base


def _identity(one: Manifest) -> tuple[str, str, str]:
    return one["apiVersion"], one["kind"], one["metadata"]["name"]
