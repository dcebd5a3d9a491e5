"""ClusterSpecs for the tests of this folder, and readers of what is made of them."""

from __future__ import annotations

from typing import Any

from aim_engine.deploy.kubernetes.manifest import Manifest
from aim_engine.deploy.kubernetes.objects import base_objects
from aim_engine.deploy.kubernetes.spec import ClusterSpec, cluster_spec
from aim_engine.deploy.kubernetes.wishes import ClusterWishes
from aim_engine.deploy.yaml_text import without_notes
from aim_engine.plan import Plan
from tests.deploy.planning import planned


def cluster(plan: Plan | None = None, **wishes: Any) -> ClusterSpec:
    return cluster_spec(plan or planned(), ClusterWishes(**wishes))


def objects(spec: ClusterSpec) -> dict[str, Manifest]:
    """The objects by their kind, without comments; of several of a kind the last."""
    return {one["kind"]: without_notes(one) for one in base_objects(spec)}


def workload(spec: ClusterSpec) -> Manifest:
    found = objects(spec)
    made: Manifest = found.get("Deployment") or found["StatefulSet"]
    return made


def pod(spec: ClusterSpec) -> Manifest:
    made: Manifest = workload(spec)["spec"]["template"]["spec"]
    return made


def container(spec: ClusterSpec) -> Manifest:
    (made,) = pod(spec)["containers"]
    found: Manifest = made
    return found


def variables(spec: ClusterSpec) -> dict[str, str]:
    """Those with a value, as a pod would get them."""
    return {one["name"]: expanded(one["value"]) for one in container(spec)["env"] if "value" in one}


def expanded(text: str) -> str:
    """A value as Kubernetes hands it on when no other variable is set, by its documentation: `$$` is a dollar sign,
    `$(NAME)` another variable's value, and stays as it is where there is none; any other `$` is one.
    """
    found, place = "", 0
    while place < len(text):
        step = 2 if text.startswith("$$", place) else 1
        assert not text.startswith("$(", place), "a reference that is not ours"
        found += text[place]
        place += step
    return found
