"""The README's lines for a machine without a GPU, run one after the other as a reader would; only the image is the one
that is here, and the ports are free ones.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.serving import free_ports
from tests.image.containers import LABEL, ROOT, docker

pytestmark = pytest.mark.image

NAME = f"{LABEL}-readme"


def lines() -> list[str]:
    text = (ROOT / "README.md").read_text().partition("```sh\nscripts/build --cpu\n")[2].partition("\n```")[0]
    assert "docker run" in text
    return text.splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that looks like the checkout to these lines."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    yield tmp_path
    docker("rm", "--force", NAME, check=False)


def test_every_line_works_and_the_last_number_is_0(image: str, place: Path) -> None:
    api, health = free_ports(2)
    replaced = {
        "aim-engine-unified-cpu": image,
        ":8000:": f":{api}:",
        ":8080:": f":{health}:",
        ":8000/": f":{api}/",
        ":8080/": f":{health}/",
        "--name tiny": f"--name {NAME}",
    }
    said = {}
    for line in lines():
        shown = line
        for old, new in replaced.items():
            shown = shown.replace(old, new)
        if shown.startswith("docker ") and shown.endswith(" tiny"):
            shown = f"{shown.removesuffix('tiny')}{NAME}"
        done = subprocess.run(["sh", "-c", shown], cwd=place, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{shown}\n{done.stdout}{done.stderr}"
        said[" ".join(line.split()[:2])] = done.stdout
    assert said["docker inspect"] == "0\n"
    assert json.loads(said["curl -sS"])["phase"] == "ready"  # the last of them, the status
    assert subprocess.run(["docker", "inspect", NAME], capture_output=True, check=False).returncode != 0
