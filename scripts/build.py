"""Make the container image: options come in, an image in the Docker Engine goes out, with a line for every long step.

What is slow or needs the network happens here, on the host, so that Dockerfile.unified itself needs neither: packages
are downloaded by the host's pip, as it is configured, into build/wheels.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aim_engine import __version__
from aim_engine.backends.registry import BUILT_IN
from aim_engine.errors import AimError, DockerError, InputError
from scripts.cpu_base import CpuBase, is_here
from scripts.steps import ROOT, Steps

DOCKERFILE = "Dockerfile.unified"
DEFAULT_BACKEND = "vllm"
# distribution/reference, regexp.go: an optional registry, a path in lower case, an optional tag
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE_NAME = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?", re.ASCII
)
# What images with vLLM do not bring. Everything else in pyproject.toml's dependencies is vLLM's own as well; were it
# missing, the image's build would ask pip's index.
OFTEN_LACKING = ("docker", "supervisor", "shtab")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/build", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", metavar="IMAGE", help="an image with vLLM to build on")
    parser.add_argument("--backend", choices=sorted(BUILT_IN), help="the engine in the base (default: vllm)")
    parser.add_argument("--cpu", action="store_true", help="build on the CPU's vLLM, making that base first")
    parser.add_argument("--tag", metavar="NAME", help="what the image is called")
    options = parser.parse_args(arguments)
    if options.tag is not None and not IMAGE_NAME.fullmatch(options.tag):
        parser.error(f"--tag: {options.tag!r} cannot be an image's name: use lower-case letters, digits, '.', '_', '-'")
    if options.cpu and options.base:
        parser.error("--cpu makes its own base; leave --base out")
    if options.backend not in (None, DEFAULT_BACKEND) and not options.base:
        parser.error(f"--backend {options.backend} needs a base that has it: give --base too")
    steps = Steps("build", ROOT / "build" / "build.log")
    try:
        build(steps, options)
    except AimError as error:
        steps.say(f"{error.message}; {error.hint}")
        return error.code
    except KeyboardInterrupt:
        steps.say("interrupted; run it again to go on")
        return 130
    return 0


def build(steps: Steps, options: argparse.Namespace) -> None:
    require_engine()
    base = CpuBase(steps).make() if options.cpu else options.base or base_from(os.environ.get("VLLM_BASE_REGISTRY", ""))
    tag = options.tag or ("aim-engine-unified-cpu" if options.cpu else "aim-engine-unified")
    wheels(steps)
    values = {
        "VERSION": __version__,
        **revision(),
    }
    if base:
        values["BASE_IMAGE"] = base
    if options.backend not in (None, DEFAULT_BACKEND):
        values["BACKEND"] = options.backend
    command = ["docker", "build", "--file", DOCKERFILE, "--tag", tag]
    for name, value in values.items():
        command += ["--build-arg", f"{name}={value}"]
    if steps.run(f"building {tag}", [*command, "."], follow="Step ") != 0:
        raise steps.failure(f"building {tag}", advice(base, cpu=options.cpu))
    steps.say(f"ready: {tag}, {size_text(tag)}")


def advice(base: str | None, *, cpu: bool) -> str:
    """What to do when Docker could not build on that base (None: the Dockerfile's own)."""
    said = "see what the step says above"
    if cpu:
        return said
    name = base or default_base()
    if is_here(name):
        return f"{said}, or name another image with --base (BASE_IMAGE of a plain docker build)"
    return (
        f"{said}; where no registry gives {name}: docker load --input FILE brings it from a machine that has it "
        "(docker save), --base MIRROR/NAME takes it from elsewhere (BASE_IMAGE of a plain docker build), and --cpu "
        "needs no image of AMD's"
    )


def base_from(repository: str) -> str | None:
    """The Dockerfile's base, with its tag or digest, out of another repository (VLLM_BASE_REGISTRY); None without one.

    Raises:
        InputError: it cannot be a repository.
    """
    if not repository:
        return None
    if not IMAGE_NAME.fullmatch(repository) or ":" in repository.rpartition("/")[2]:
        raise InputError(
            f"VLLM_BASE_REGISTRY={repository[:80]!r} is no repository of images",
            hint="use registry/path without a tag: registry.example.com/mirror/vllm; --base names a whole image",
        )
    last = default_base().rpartition("/")[2]
    pinned = re.search("[:@]", last)
    return repository + (last[pinned.start() :] if pinned else "")


def default_base() -> str:
    """The base that the Dockerfile names."""
    lines = (ROOT / DOCKERFILE).read_text().splitlines()
    return next(line for line in lines if line.startswith("ARG BASE_IMAGE=")).partition("=")[2]


def require_engine() -> None:
    """Raise unless a Docker Engine answers."""
    try:
        asked = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"],
                               capture_output=True, text=True, timeout=30, check=False)  # fmt: skip
    except FileNotFoundError:
        raise DockerError(
            "there is no docker command", hint="install Docker; on Debian: apt-get install docker.io"
        ) from None
    except subprocess.TimeoutExpired:
        raise DockerError("the Docker Engine does not answer", hint="is DOCKER_HOST right?") from None
    if asked.returncode == 0:
        return
    reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
    if "permission denied" in reason:
        raise DockerError("this user may not use the Docker Engine", hint="run as root, or join the group docker")
    raise DockerError(f"no Docker Engine answers: {reason}", hint="start it, or set DOCKER_HOST")


def wheels(steps: Steps) -> None:
    """Put what a base will lack where the build finds it. Where that fails, the build asks pip's index itself."""
    folder = ROOT / "build" / "wheels"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lacking = [each for each in project["dependencies"] if each.startswith(OFTEN_LACKING)]
    wanted = lacking + project["optional-dependencies"]["stacks"]
    stamp = folder / "stamp"
    if stamp.is_file() and stamp.read_text() == "\n".join(wanted):
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if steps.run("downloading what the base may lack", [*command, "--dest", str(folder), *wanted]) == 0:
        stamp.write_text("\n".join(wanted))
    else:
        steps.say("that did not work; the image's build will ask pip's index")


def revision() -> dict[str, str]:
    """The commit and its time, so that the same checkout gives the same image; nothing outside a checkout."""
    shown = subprocess.run(
        ["git", "log", "-1", "--format=%H %cI"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if shown.returncode != 0:
        return {}
    commit, created = shown.stdout.split()
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, check=False).returncode != 0
    return {"REVISION": commit + ("-changed" if changed else ""), "CREATED": created}


def size_text(tag: str) -> str:
    size = subprocess.run(["docker", "image", "inspect", "--format", "{{.Size}}", tag],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    return f"{int(size) / 1e9:.2f} GB"


if __name__ == "__main__":
    sys.exit(main())
