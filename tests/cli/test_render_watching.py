"""`render alerts`, `dashboard` and `kserve`, and the components of `render kubernetes` that watch and scale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from aim_engine.deploy.alerts import rules
from aim_engine.deploy.dashboard import dashboard
from tests.building import MODEL
from tests.cli.conftest import Run

ON = ("--hardware", "MI300X:8", "--gpus", "4", "--image", "r.example/aim-engine:1", "--render-group", "109")


def test_the_alerts_are_a_rules_file_of_no_model(cli: Run, tmp_path: Path) -> None:
    done = cli("render", "alerts")
    assert (done.code, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout) == rules()
    assert cli("render", "alerts", "--json").json == rules()
    path = tmp_path / "alerts.yaml"
    assert cli("render", "alerts", "-o", str(path)).stderr == f"wrote {path}\n"
    assert path.read_text() == done.stdout


def test_the_dashboard_is_json(cli: Run) -> None:
    assert json.loads(cli("render", "dashboard").stdout) == dashboard()
    assert cli("render", "dashboard", "--json").json == dashboard()


def test_a_file_that_cannot_be_written(cli: Run, tmp_path: Path) -> None:
    done = cli("render", "alerts", "-o", str(tmp_path / "none" / "alerts.yaml"))
    assert done.code == 42
    assert "cannot be written" in done.stderr


def test_objects_of_kserve(cli: Run) -> None:
    done = cli("render", "kserve", MODEL, *ON, "--name", "qwen")
    assert (done.code, done.stderr) == (0, "")
    kinds = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
    assert kinds[-2:] == ["ServingRuntime", "InferenceService"]
    as_json = cli("render", "kserve", MODEL, *ON, "--name", "qwen", "--json").json
    assert as_json["kind"] == "List"
    assert as_json["items"] == list(yaml.safe_load_all(done.stdout))


def test_kserve_cannot_give_each_pod_a_cache(cli: Run) -> None:
    done = cli("render", "kserve", MODEL, *ON, "--local-cache")
    assert done.code == 10
    assert "cannot have a cache each" in done.stderr


@pytest.mark.parametrize("target", ["kubernetes", "kserve"])
def test_what_watches_and_scales_is_added_by_name(cli: Run, target: str) -> None:
    done = cli("render", target, MODEL, *ON, "--with", "monitored", "--with", "autoscaled-keda", "--max-replicas", "3",
               "--prometheus", "http://mine:9090", "--monitor-label", "release=mine", "--json")  # fmt: skip
    assert done.code == 0, done.stderr
    found = {one["kind"]: one for one in done.json["items"]}
    assert found["ScaledObject"]["spec"]["maxReplicaCount"] == 3
    assert found["ScaledObject"]["spec"]["triggers"][0]["metadata"]["serverAddress"] == "http://mine:9090"
    assert found["PodMonitor"]["metadata"]["labels"]["release"] == "mine"
    assert found["PrometheusRule"]["spec"]["groups"]


@pytest.mark.parametrize("pair", [("autoscaled", "autoscaled-keda"), ("service-monitored", "monitored")])
def test_two_of_a_kind_are_refused(cli: Run, pair: tuple[str, str]) -> None:
    """Two autoscalers of one Deployment would fight."""
    done = cli("render", "kubernetes", MODEL, *ON, "--with", pair[0], "--with", pair[1])
    assert done.code == 10
    assert "do the same" in done.stderr


def test_a_folder_has_an_overlay_for_each_and_the_complete_one_has_one_of_a_kind(cli: Run, tmp_path: Path) -> None:
    assert cli("render", "kubernetes", MODEL, *ON, "-o", str(tmp_path / "out")).code == 0
    overlays = tmp_path / "out" / "overlays"
    names = {path.name for path in overlays.iterdir()}
    assert {"monitored", "service-monitored", "autoscaled", "autoscaled-keda", "complete"} <= names
    kinds = {yaml.safe_load(path.read_text())["kind"] for path in (overlays / "complete").iterdir()}
    assert {"PodMonitor", "PrometheusRule", "HorizontalPodAutoscaler"} <= kinds
    assert not {"ServiceMonitor", "ScaledObject"} & kinds


@pytest.mark.parametrize(
    "label", ["release", "=x", "a b=c", "release=" + "x" * 64, "re lease=x", "app.kubernetes.io/instance=x"]
)
def test_a_label_that_is_none(cli: Run, label: str) -> None:
    done = cli("render", "kubernetes", MODEL, *ON, "--with", "monitored", "--monitor-label", label)
    assert done.code == 10
    assert "--monitor-label" in done.stderr


@pytest.mark.parametrize("url", ["mine:9090", "ftp://mine", "http://", "http://a b"])
def test_an_address_of_prometheus_that_is_none(cli: Run, url: str) -> None:
    done = cli("render", "kubernetes", MODEL, *ON, "--with", "autoscaled-keda", "--prometheus", url)
    assert done.code == 10
    assert "--prometheus" in done.stderr
