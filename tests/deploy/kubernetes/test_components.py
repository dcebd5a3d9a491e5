"""Components: found by name, laid over the base, and an overlay each in a folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from aim_engine.deploy.kubernetes import components
from aim_engine.deploy.kubernetes.components import COMPONENTS, Component, components_named, with_pieces
from aim_engine.deploy.kubernetes.files import EVERYTHING, kustomize_files, stream_text
from aim_engine.deploy.kubernetes.manifest import merged
from aim_engine.deploy.kubernetes.objects import base_objects
from aim_engine.deploy.kubernetes.pieces import Pieces
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.errors import InputError
from tests.deploy.kubernetes.clusters import cluster


def scaled(spec: ClusterSpec) -> Pieces:
    """Something like an autoscaler: an object, and the base without a number of replicas."""
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{spec.name}-x"}, "data": {"a": "on"}}
    patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": spec.name},
             "spec": {"replicas": None, "minReadySeconds": 5}}  # fmt: skip
    return Pieces(objects=(thing,), patches=(patch,))


SCALED = Component(name="scaled", summary="for this test", make=scaled)


def test_names_are_unique_and_folders() -> None:
    names = [one.name for one in COMPONENTS]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() or name.replace("-", "").isalnum() for name in names)
    assert EVERYTHING not in names


def test_an_unknown_component_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "COMPONENTS", (SCALED,))
    assert components_named(["scaled", "scaled"]) == (SCALED,)
    with pytest.raises(InputError, match="--with 'x'") as caught:
        components_named(["x"])
    assert caught.value.hint == "use scaled"


def test_patches_are_laid_over_what_they_name() -> None:
    spec = cluster()
    found: Any = {one["kind"]: one for one in with_pieces(base_objects(spec), [scaled(spec)])}
    assert "replicas" not in found["Deployment"]["spec"]
    assert found["Deployment"]["spec"]["minReadySeconds"] == 5
    assert found["Deployment"]["spec"]["template"]
    assert found["ConfigMap"]["data"] == {"a": "on"}
    assert "minReadySeconds" not in found["Service"]["spec"]


def test_merging_takes_away_adds_and_replaces() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    assert merged(base, {"a": {"b": None, "e": 3}, "d": [3]}) == {"a": {"c": 2, "e": 3}, "d": [3]}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1, 2]}


def test_a_component_in_a_stream() -> None:
    documents = list(yaml.safe_load_all(stream_text(cluster(), [SCALED])))
    assert documents[-1]["kind"] == "ConfigMap"
    assert [one["kind"] for one in documents].count("Deployment") == 1


def test_a_folder_has_an_overlay_for_each_and_for_all() -> None:
    files = kustomize_files(cluster(name="mine"), [SCALED, replace(SCALED, name="other", make=lambda _: Pieces())])
    assert set(files) >= {"base/kustomization.yaml", "overlays/scaled/configmap-mine-x.yaml",
                          "overlays/scaled/patch-1-deployment-mine.yaml", "overlays/other/kustomization.yaml",
                          f"overlays/{EVERYTHING}/kustomization.yaml"}  # fmt: skip
    overlay = yaml.safe_load(files["overlays/scaled/kustomization.yaml"])
    assert overlay["resources"] == ["../../base", "configmap-mine-x.yaml"]
    assert overlay["patches"] == [{"path": "patch-1-deployment-mine.yaml"}]
    assert "patches" not in yaml.safe_load(files["overlays/other/kustomization.yaml"])


def test_without_components_there_is_a_base_alone() -> None:
    assert {path.partition("/")[0] for path in kustomize_files(cluster(), [])} == {"base"}
