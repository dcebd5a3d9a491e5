"""What an endpoint gets from the orchestrator that launches it: its image, and its network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import NotFound

from aim_engine.backends import vllm
from aim_engine.deploy.orchestrator import own_image, own_network
from aim_engine.hardware.installed import Engine
from tests.building import CPU_ENGINE, ROCM
from tests.deploy.planning import cpu_plan, planned

OURS = {"Config": {"Labels": {"org.opencontainers.image.title": "AIM Engine"}}}
OWN = {"Image": "sha256:aa", "Config": {"Image": "r.example.com/aim:1"}}


class Engineer:
    """An engine that knows these images and networks."""

    def __init__(self, images: Any = None, networks: Any = None) -> None:
        self.images, self.networks = images or {}, networks or {}
        self.api = self

    def inspect_image(self, name: str) -> Any:
        return self._one(self.images, name)

    def inspect_network(self, name: str) -> Any:
        return self._one(self.networks, name)

    @staticmethod
    def _one(known: Any, name: str) -> Any:
        if name not in known:
            raise NotFound(name, SimpleNamespace(status_code=404))
        return known[name]


def image(client: Any, plan: Any, installed: Engine | None, monkeypatch: pytest.MonkeyPatch, own: Any = OWN) -> Any:
    monkeypatch.setattr(vllm, "find", lambda *_: installed)
    return own_image(client, own, plan)


def test_our_own_image_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Engineer({"sha256:aa": OURS, "r.example.com/aim:1": {**OURS, "Id": "sha256:aa"}})
    assert image(here, cpu_plan(), CPU_ENGINE, monkeypatch) == "r.example.com/aim:1"


@pytest.mark.parametrize("now", [{"r.example.com/aim:1": {**OURS, "Id": "sha256:bb"}}, {}])
def test_a_name_that_means_another_image_by_now_is_not_it(now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Engineer({"sha256:aa": OURS, **now})
    assert image(here, cpu_plan(), CPU_ENGINE, monkeypatch) == "sha256:aa"


def test_an_image_for_other_devices_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Engineer({"sha256:aa": OURS})
    assert image(here, planned(), CPU_ENGINE, monkeypatch) is None
    assert image(here, cpu_plan(), ROCM, monkeypatch) is None
    assert image(here, cpu_plan(), None, monkeypatch) is None


def test_an_image_of_others_or_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert image(Engineer({"sha256:aa": {"Config": {"Labels": None}}}), cpu_plan(), CPU_ENGINE, monkeypatch) is None
    assert image(Engineer(), cpu_plan(), CPU_ENGINE, monkeypatch) is None
    assert image(Engineer(), cpu_plan(), CPU_ENGINE, monkeypatch, own=None) is None


def test_a_network_that_somebody_made_is_shared() -> None:
    known = Engineer(networks={"a-secret": {"Internal": True}, "app": {"Internal": False}, "web": {"Internal": False}})
    assert own_network(known, {"a-secret": "", "web": "1.2.3.4", "app": "1.2.3.5"}) == "app"
    assert own_network(known, {"a-secret": "1.2.3.4"}) is None
    assert own_network(known, {"gone": "1.2.3.4"}) is None


@pytest.mark.parametrize("networks", [None, {}, {"bridge": "172.17.0.1"}, {"app": "1.2.3.4", "bridge": "172.17.0.1"}])
def test_in_the_engine_s_own_network_nothing_is_said(networks: Any) -> None:
    assert own_network(Engineer(networks={"app": {"Internal": False}}), networks) is None
