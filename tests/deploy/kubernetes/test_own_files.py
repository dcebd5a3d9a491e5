"""A recipe and a card of the user's own reach the pod, and a pod of other files is another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from aim_engine.cli.main import main
from aim_engine.deploy.yaml_text import Block, yaml_text
from tests.building import MODEL, ROOT
from tests.deploy.kubernetes.clusters import cluster, variables
from tests.deploy.planning import planned

RECIPE = "Qwen/Qwen3-32B/qwen3-32b-mi300x-bf16.yaml"
CARD = "Qwen/Qwen3-32B.yaml"


def folders(tmp_path: Path, more: str = "") -> tuple[str, ...]:
    for name, file in (("recipes", RECIPE), ("models", CARD)):
        target = tmp_path / name / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((ROOT / name / file).read_text() + more)
    return ("--recipes-dir", str(tmp_path / "recipes"), "--models-dir", str(tmp_path / "models"))


def rendered(capsys: Any, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["render", "kubernetes", MODEL, "--hardware", "MI300X:8", *words]) == 0
    return {one["kind"]: one for one in yaml.safe_load_all(capsys.readouterr().out)}


def test_they_are_where_the_pod_looks(tmp_path: Path, capsys: Any) -> None:
    found = rendered(capsys, *folders(tmp_path))
    assert found["ConfigMap"]["data"] == {
        "recipe.yaml": (tmp_path / "recipes" / RECIPE).read_text(),
        "model.yaml": (tmp_path / "models" / CARD).read_text(),
    }
    pod = found["Deployment"]["spec"]["template"]["spec"]
    volumes = {one["name"]: one["configMap"] for one in pod["volumes"] if "configMap" in one}
    assert volumes["recipes"]["items"] == [{"key": "recipe.yaml", "path": RECIPE}]
    assert volumes["models"]["items"] == [{"key": "model.yaml", "path": CARD}]
    assert {one["name"] for one in volumes.values()} == {found["ConfigMap"]["metadata"]["name"]}
    mounts = {one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    told = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert {told["AIM_RECIPES_DIR"], told["AIM_MODELS_DIR"]} <= mounts


def test_other_files_make_other_pods(tmp_path: Path, capsys: Any) -> None:
    def mark(more: str) -> Any:
        found = rendered(capsys, *folders(tmp_path, more))
        return found["Deployment"]["spec"]["template"]["metadata"]["annotations"]

    assert mark("") == mark("") != mark("# changed\n")


def test_a_folder_with_nothing_for_this_plan_is_not_spoken_of(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    spec = cluster(planned(recipes_dir=str(tmp_path / "recipes")))
    assert spec.own_files == ()
    assert "AIM_RECIPES_DIR" not in variables(spec)


def test_what_is_mounted_is_planned_the_same(tmp_path: Path, capsys: Any) -> None:
    """As the kubelet lays a ConfigMap out: the folders are links into a hidden one."""
    mounted = tmp_path / "mounted"
    data = mounted / "..2026_01_01/Qwen/Qwen3-32B"
    data.mkdir(parents=True)
    text = (ROOT / "recipes" / RECIPE).read_text()
    (data / Path(RECIPE).name).write_text(text)
    (mounted / "..data").symlink_to("..2026_01_01")
    (mounted / "Qwen").symlink_to("..data/Qwen")
    assert main(["plan", MODEL, "--hardware", "MI300X:8", "--recipes-dir", str(mounted), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe_file"] == str(mounted / RECIPE)


def test_a_file_is_written_as_it_is() -> None:
    text = "a: 1\n\n# on: b\n  c\t\n"
    assert yaml.safe_load(yaml_text({"data": {"x": Block(text), "y": "z"}}))["data"]["x"] == text
