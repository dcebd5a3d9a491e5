"""kubectl's own client-side dry run of the golden files. It asks a cluster for nothing but which kinds there are, so a
server that tells these, as Kubernetes' discovery does, is all that it needs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.kubernetes.examples import EXAMPLES

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kubernetes"
KINDS = {
    "v1": ("ServiceAccount", "PersistentVolumeClaim", "Service", "ConfigMap"),
    "apps/v1": ("Deployment", "StatefulSet"),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
}

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="NOT TESTED: kubectl is not installed (apt-get install kubernetes-client)",
)


def discovery(path: str) -> Any:
    """What a cluster answers there; None for anything else."""
    groups = [{"name": api.partition("/")[0], "versions": [{"groupVersion": api, "version": "v1"}],
               "preferredVersion": {"groupVersion": api, "version": "v1"}} for api in KINDS if "/" in api]  # fmt: skip
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    for api, kinds in KINDS.items():
        if path in (f"/api/{api}", f"/apis/{api}"):
            plural = {kind: kind.lower() + "s" for kind in kinds} | {"NetworkPolicy": "networkpolicies"}
            resources = [{"name": plural[kind], "singularName": kind.lower(), "namespaced": True, "kind": kind,
                          "verbs": ["create", "get", "patch"]} for kind in kinds]  # fmt: skip
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api, "resources": resources}
    return None


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = discovery(self.path.partition("?")[0])
        body = json.dumps(found or {"kind": "Status", "status": "Failure", "code": 404}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def dry_run(cluster: str, text: str, home: Path) -> subprocess.CompletedProcess[str]:
    words = ["kubectl", "create", "--dry-run=client", "--validate=false", "-o", "name", "-f", "-", "--server", cluster]
    return subprocess.run(words, input=text, capture_output=True, text=True, timeout=120, check=False,
                          env={"PATH": os.environ["PATH"], "KUBECONFIG": "/dev/null", "HOME": str(home)})  # fmt: skip


def test_kubectl_would_create_every_object_of_every_model(cluster: str, tmp_path: Path) -> None:
    """All of them at once: a process for each would take longer than all the rest."""
    texts = [(GOLDEN / f"{name}.yaml").read_text() for name in EXAMPLES]
    done = dry_run(cluster, "\n".join(texts), tmp_path)
    found = [one for text in texts for one in yaml.safe_load_all(text)]
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(found) > 50
    for one in found:
        assert any(line.endswith(f"/{one['metadata']['name']}") for line in done.stdout.splitlines())


def test_kubectl_refuses_what_is_no_object(cluster: str, tmp_path: Path) -> None:
    text = (GOLDEN / "qwen3-32b.yaml").read_text().replace('kind: "Deployment"', 'kind: "Deploymint"')
    assert "Deploymint" in dry_run(cluster, text, tmp_path).stderr
