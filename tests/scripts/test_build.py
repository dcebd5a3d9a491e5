"""scripts/build's own words, with a stand-in for docker that refuses what a real one would refuse."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from aim_engine.errors import DockerError, InputError
from scripts import build
from scripts.steps import Steps

DOCKER = """#!/bin/sh
case "$1 $2" in
    "version "*) echo 29.0 ;;
    "image inspect") case "$*" in *{here}*) exit 0 ;; esac; exit 1 ;;
    "build "*) echo "Step 1/9 : FROM x"; echo "the build said why"; exit 1 ;;
esac
"""


def failed_build(monkeypatch: pytest.MonkeyPatch, folder: Path, here: str, **options: object) -> DockerError:
    (folder / "docker").write_text(DOCKER.replace("{here}", here))
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(build, "wheels", lambda steps: None)
    given = argparse.Namespace(**{"cpu": False, "base": None, "backend": None, "tag": None, **options})
    with pytest.raises(DockerError) as caught:
        build.build(Steps("build", folder / "log"), given)
    return caught.value


def test_a_base_that_no_registry_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hint = failed_build(monkeypatch, tmp_path, "nothing-at-all").hint
    assert "where no registry gives rocm/vllm:rocm7.0.0_vllm_0.11.1_20251103" in hint
    assert "docker load" in hint
    assert "BASE_IMAGE" in hint
    assert "--cpu" in hint


def test_a_base_that_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hint = failed_build(monkeypatch, tmp_path, "my/base", base="my/base").hint
    assert hint.startswith("see what the step says above, or name another image with --base")
    assert "docker load" not in hint


def test_what_cpu_forbids_is_not_advised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hint = failed_build(monkeypatch, tmp_path, "aim-engine-cpu-base", cpu=True).hint
    assert hint.startswith("see what the step says above; ")
    assert "--base" not in hint


@pytest.mark.parametrize("tag", ["My-Image", "a b", "-x", "a:", "a//b", "a:b:c", "a:-x", ""])
def test_a_name_that_no_image_can_have_is_told_first(tag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build.main(["--cpu", f"--tag={tag}"])
    assert ended.value.code == 2
    assert "cannot be an image's name" in capsys.readouterr().err


@pytest.mark.parametrize("tag", ["a", "aim-engine-unified-cpu:1.0_x", "r.example:5000/Team/a", "localhost/a__b/c"])
def test_names_that_images_have(tag: str) -> None:
    assert bool(build.IMAGE_NAME.fullmatch(tag)) is ("Team" not in tag)


def test_the_base_from_a_mirror_keeps_its_tag() -> None:
    tag = build.default_base().partition(":")[2]
    assert build.base_from("registry.example.com:5000/mirror/vllm") == f"registry.example.com:5000/mirror/vllm:{tag}"
    assert build.base_from("rocm/vllm") == build.default_base()
    assert build.base_from("") is None


@pytest.mark.parametrize(
    ("base", "rest"), [("r:5/a/b@sha256:ab", "@sha256:ab"), ("a/b:1@sha256:ab", ":1@sha256:ab"), ("r:5/a/b", "")]
)
def test_and_its_digest(base: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "default_base", lambda: base)
    assert build.base_from("m/v") == f"m/v{rest}"


@pytest.mark.parametrize("repository", ["rocm/vllm:latest", "-x", "r.example/A", "a b", "a@sha256:00", "https://r/a"])
def test_a_mirror_that_is_no_repository_is_told_first(
    repository: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="is no repository"):
        build.base_from(repository)
    monkeypatch.setattr(build, "require_engine", lambda: None)
    monkeypatch.setenv("VLLM_BASE_REGISTRY", repository)
    assert build.main([]) == 10
    assert "VLLM_BASE_REGISTRY" in capsys.readouterr().err


def test_another_engine_needs_a_base_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build.main(["--backend", "sglang"])
    assert ended.value.code == 2
    assert "give --base too" in capsys.readouterr().err
