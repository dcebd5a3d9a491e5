"""docs/kubernetes.md is true: its commands are understood, they write what the page says, its flags are ours."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from aim_engine.cli.main import build_parser, main
from tests.building import ROOT

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
LINES = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
         for line in block.splitlines()]  # fmt: skip
KUBECTL = [line.rpartition("| ")[2] for line in LINES if "kubectl " in line]
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="NOT TESTED: kubectl is not installed (apt-get install kubernetes-client)",
)


def kubectl(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(["kubectl", *words], capture_output=True, text=True, timeout=60, check=False, cwd=cwd,
                          env={"PATH": os.environ["PATH"], "KUBECONFIG": "/dev/null", "HOME": "/none"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_ours_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = [line for line in LINES if line.startswith("aim-engine ")]
    assert len(ours) == 5
    for line in ours:
        assert main(shlex.split(line)[1:]) == 0, line
    header = (tmp_path / "qwen.yaml").read_text()
    for line in LINES:
        if "printf" in line:
            command = " ".join(header.replace("\\\n#", " ").replace("\n#", " ").split())
            assert line.rpartition(" && ")[2] in command
    deployment = next(one for one in yaml.safe_load_all(header) if one["kind"] == "Deployment")
    assert (deployment["metadata"]["name"], deployment["metadata"]["namespace"]) == ("qwen", "models")
    assert deployment["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "qwen"
    if shutil.which("kubectl"):
        assert "kind: Deployment" in kubectl("kustomize", "qwen/base", cwd=tmp_path)


@needs_kubectl
@pytest.mark.parametrize("line", KUBECTL)
def test_kubectl_knows_the_command_and_its_flags(line: str) -> None:
    words = shlex.split(line)[1:]
    verbs = (
        ["create", "secret", "generic"]
        if "secret" in words
        else ["rollout", "status"]
        if "rollout" in words
        else words[:1]
    )
    known = kubectl(*verbs, "--help") + kubectl("options")
    for word in words:
        if word.startswith("-"):
            flag = word.partition("=")[0]
            assert re.search(rf"(^|[\s,]){flag}\b", known, re.MULTILINE), (flag, line)


def test_the_flags_that_the_page_names_are_there() -> None:
    parser = build_parser("render")
    values = {"--local-cache": [], "--resource-naming": ["mixed"], "--seccomp": ["unconfined"]}
    for flag in set(re.findall(r"`(--[a-z-]+)", PAGE)) - {"--cert", "--key"}:
        parser.parse_args(["render", "kubernetes", "m", flag, *values.get(flag, ["1"])])


def test_every_field_that_it_explains_is_in_a_manifest() -> None:
    """And all that a container is told beyond its plan is explained."""
    golden = (ROOT / "tests/deploy/golden/kubernetes/qwen3-32b.yaml").read_text()
    replicas = (ROOT / "tests/deploy/golden/kubernetes/llama-3.3-70b-replicas.yaml").read_text()
    table = PAGE.partition("## 6.")[2].partition("\n## ")[0]
    fields = [word for row in table.splitlines()[4:] if row.startswith("|")
              for word in re.findall(r"`([^`]+)`", row.split("|")[1])]  # fmt: skip
    assert len(fields) > 20
    for field in fields:
        name = field.partition(":")[0].rpartition(".")[2]
        assert name in golden + replicas, field
