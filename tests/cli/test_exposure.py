"""What `serve` says of an API that others can reach, or that nobody can, by the place it runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from aim_engine.cli.serve import exposure
from aim_engine.hardware.preflight.check import Site
from tests.building import request


@pytest.fixture
def container(tmp_path: Path) -> Site:
    (tmp_path / ".dockerenv").touch()
    return Site(root=tmp_path)


def test_on_a_host_loopback_is_the_advice(tmp_path: Path) -> None:
    said = exposure(request(port="9000"), Site(root=tmp_path))
    assert said == "whoever reaches port 9000 may use the API: set AIM_API_KEY, or AIM_HOST=127.0.0.1"
    assert exposure(request(host="127.0.0.1"), Site(root=tmp_path)) is None


def test_in_a_container_it_is_to_publish_on_loopback(container: Site) -> None:
    said = exposure(request(port="9000"), container) or ""
    assert "set AIM_API_KEY, or publish it to the host alone: -p 127.0.0.1:9000:9000" in said
    assert said.startswith("whoever reaches port 9000 of this container may use the API")
    assert "AIM_HOST" not in said


def test_in_kubernetes_nothing_is_published() -> None:
    said = exposure(request(), Site(root=Path("/nowhere"), environment={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})) or ""
    assert "set AIM_API_KEY, or a NetworkPolicy" in said


def test_loopback_in_a_container_makes_its_published_ports_dead(container: Site) -> None:
    said = exposure(request(host="127.0.0.1"), container) or ""
    assert said.startswith("AIM_HOST=127.0.0.1 inside a container: ports published with -p lead nowhere")
    assert "-p 127.0.0.1:8000:8000" in said


def test_a_key_is_enough(container: Site) -> None:
    from aim_engine.request import read_request

    keyed = read_request({"model": "a/b"}, {"AIM_API_KEY": "x"})
    assert exposure(keyed, container) is None
