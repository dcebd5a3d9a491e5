"""Ten models as manifests: the files as they are kept, by the official schemas of three Kubernetes versions, and as
kubectl reads them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from aim_engine import __version__
from aim_engine.cli.main import main
from aim_engine.deploy.kubernetes.components import COMPONENTS
from tests.deploy.kubernetes.examples import EXAMPLES

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kubernetes"
WRITE = os.environ.get("AIM_GOLDEN") == "write"
VERSIONS = ("1.29", "1.33", "1.37")


def rendered(name: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["render", "kubernetes", *EXAMPLES[name], *more]) == 0
    return capsys.readouterr().out.replace(__version__, "VERSION")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AIM_", "HF_")):
            monkeypatch.delenv(name)


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """To accept a change: scripts/golden, then read the diff."""
    text = rendered(name, capsys)
    path = GOLDEN / f"{name}.yaml"
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_there_are_ten_and_no_others() -> None:
    assert len(EXAMPLES) == 10
    assert {path.stem for path in GOLDEN.glob("*")} == set(EXAMPLES)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_object_is_as_the_schemas_of_kubernetes_want_it(name: str, version: str) -> None:
    """Strictly: a key that the API does not know is an error."""
    found = documents(name)
    assert {"Service", "NetworkPolicy", "ServiceAccount", "PodDisruptionBudget"} <= {one["kind"] for one in found}
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_find_what_is_wrong() -> None:
    deployment = next(one for one in documents("qwen3-32b") if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    for key, value in (("enableServiceLink", False), ("terminationGracePeriodSeconds", "90")):
        wrong = {**deployment, "spec": {**deployment["spec"], "template": {"spec": {**pod, key: value}}}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_every_comment_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    text = rendered("qwen3-32b", capsys)
    assert not re.search(r"\bnotee*\d+: null", text)
    assert "# startupProbe: one start:" in text
    assert "# Recreate: a pod more would need 8 GPUs" in text
    assert max(map(len, text.splitlines())) < 2000


@pytest.mark.parametrize("name", ["qwen3-32b", "llama-3.1-8b-local-caches"])
def test_as_json_it_is_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = json.loads(rendered(name, capsys, "--json"))["items"]
    assert items == documents(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_refers_to_another_object_finds_it(name: str) -> None:
    """But for what is in the cluster already, by its name."""
    found = documents(name)
    names = {(one["kind"], one["metadata"]["name"]) for one in found}
    (workload,) = [one for one in found if one["kind"] in ("Deployment", "StatefulSet")]
    pod = workload["spec"]["template"]["spec"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in names
    volumes = {one["name"] for one in pod["volumes"]}
    volumes |= {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", ())}
    assert {one["name"] for one in pod["containers"][0]["volumeMounts"]} == volumes
    claims = {one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one}
    assert {("PersistentVolumeClaim", claim) for claim in claims - {"weights"}} <= names
    if workload["kind"] == "StatefulSet":
        assert ("Service", workload["spec"]["serviceName"]) in names


needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="NOT TESTED: kubectl is not installed (apt-get install kubernetes-client)",
)


def kubectl(*words: str, text: str | None = None) -> str:
    """kubectl without a cluster: no configuration, and nobody at the address."""
    done = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, timeout=120, check=False,
                          env={"PATH": os.environ["PATH"], "KUBECONFIG": "/dev/null", "HOME": "/none"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def old_kubectl() -> bool:
    """Before 1.21 its kustomize knows folders as `bases` and patches as `patchesStrategicMerge` only."""
    version = json.loads(kubectl("version", "--client", "-o", "json"))["clientVersion"]
    return int(version["minor"].rstrip("+")) < 21


def for_an_old_kubectl(folder: Path) -> None:
    for path in folder.glob("overlays/*/kustomization.yaml"):
        found = yaml.safe_load(path.read_text())
        found["bases"] = [one for one in found["resources"] if ".." in one]
        found["resources"] = [one for one in found["resources"] if ".." not in one]
        if patches := found.pop("patches", None):
            found["patchesStrategicMerge"] = [one["path"] for one in patches]
        path.write_text(yaml.safe_dump(found))


@needs_kubectl
@pytest.mark.parametrize("name", ["qwen3-32b", "llama-3.1-8b-local-caches"])
def test_kubectl_builds_the_base_and_every_overlay(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "kubernetes", *EXAMPLES[name], "-o", str(tmp_path / "k")]) == 0
    assert "wrote " in capsys.readouterr().err
    if old_kubectl():
        for_an_old_kubectl(tmp_path / "k")
    built = list(yaml.safe_load_all(kubectl("kustomize", str(tmp_path / "k/base"))))
    plain = [json.loads(json.dumps(one).replace(__version__, "VERSION")) for one in built]

    def in_order(found: list[Any]) -> list[Any]:
        return sorted(found, key=lambda one: (one["kind"], one["metadata"]["name"]))

    assert in_order(plain) == in_order(documents(name))
    overlays = sorted((tmp_path / "k").glob("overlays/*"))
    assert {one.name for one in overlays} >= {one.name for one in COMPONENTS}
    for overlay in overlays:
        kinds = [one["kind"] for one in yaml.safe_load_all(kubectl("kustomize", str(overlay)))]
        assert len(kinds) >= len(plain)


@needs_kubectl
def test_the_command_that_makes_the_secret_works_and_puts_no_value_in_argv(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [line.removeprefix("# ").strip() for line in rendered("qwen3-8b-surge", capsys).splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith("printf"))
    end = next(number for number, line in enumerate(lines) if line.endswith("/dev/stdin"))
    command = " ".join(line.removesuffix("\\") for line in lines[at : end + 1])
    command = " ".join(command.split())
    assert command.endswith("-n models --from-env-file=/dev/stdin")
    for given in ({"HF_TOKEN": "hf_t0ken", "AIM_API_KEY": "k=e y#1"}, {"HF_TOKEN": "t", "AIM_API_KEY": ""}, {}):
        done = subprocess.run(["sh", "-c", f"{command} --dry-run=client -o json"], capture_output=True, text=True,
                              timeout=60, check=False,
                              env={"PATH": os.environ["PATH"], "KUBECONFIG": "/dev/null", "HOME": "/none",
                                   **given})  # fmt: skip
        assert done.returncode == 0, done.stderr
        secret = json.loads(done.stdout)
        values = {name: base64.b64decode(text).decode() for name, text in secret.get("data", {}).items()}
        assert values == {name: text for name, text in given.items() if text}, "an empty key is none, and refused"
        assert secret["metadata"]["name"].endswith("-secrets")


def test_the_secret_is_not_made_without_a_key_that_must_be_in_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIM_API_KEY", "s3cret")
    lines = [line.removeprefix("#   ") for line in rendered("qwen3-8b-surge", capsys).splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith(":"))
    end = next(number for number, line in enumerate(lines) if line.startswith("kubectl create secret"))
    command = "\n".join([*lines[at:end], "cat"])
    for key in ("k", "", None):
        given = {} if key is None else {"AIM_API_KEY": key}
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False,
                              env={"PATH": os.environ["PATH"], **given})  # fmt: skip
        assert done.stdout == (f"AIM_API_KEY={key}\n" if key else ""), done.stderr
        assert (done.returncode == 0) == bool(key)
