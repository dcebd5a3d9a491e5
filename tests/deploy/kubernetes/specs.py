"""Specs of a cluster for the tests of what watches and scales one."""

from __future__ import annotations

from typing import Any

from aim_engine.deploy.kubernetes.spec import ClusterSpec, cluster_spec
from aim_engine.deploy.kubernetes.wishes import ClusterWishes
from tests.deploy.planning import planned

KEY = {"AIM_API_KEY": "s3cret-of-the-tests"}


def spec(environment: Any = None, flags: Any = None, **wishes: Any) -> ClusterSpec:
    """The pods of a plan for eight MI300X, on four of them each unless told otherwise."""
    given = {"image": "r.example/aim-engine:1", "name": "qwen", "groups": (109,), **wishes}
    return cluster_spec(planned(environment, **{"gpu_count": "4", **(flags or {})}), ClusterWishes(**given))
