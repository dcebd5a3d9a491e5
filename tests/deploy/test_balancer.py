"""Several replicas behind a balancer: what their containers and the file say. With a real nginx: tests/image."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine import __version__
from aim_engine.deploy.allocation import allocate
from aim_engine.deploy.balancer import Balancer, several
from aim_engine.deploy.compose import compose_document, compose_text
from aim_engine.deploy.free_ports import health_ports_following
from aim_engine.deploy.replicas import plan_replicas
from aim_engine.deploy.spec import ContainerSpec, container_spec
from aim_engine.errors import InputError
from aim_engine.request import read_request
from tests.building import MODEL
from tests.deploy.planning import check_compose, interpolated, with_nodes
from tests.deploy.test_compose import GOLDEN, needs_compose, read_by_compose
from tests.deploy.test_replicas import plan_one


def behind(
    count: int = 2, *, name: str | None = None, image: str | None = None, network: str | None = None,
    user: str | None = None, environment: Any = None, **flags: str,
) -> tuple[tuple[ContainerSpec, ...], Balancer]:  # fmt: skip
    request = read_request({"model": MODEL, **flags}, environment or {})
    plain = replace(request, tls_cert=None, tls_key=None)
    plans = plan_replicas(health_ports_following(plain, count), allocate(with_nodes(), ()), plan_one)
    specs = tuple(container_spec(plan, network=network, user=user, groups=(44,)) for plan in plans)
    return several(specs, plans, request, name=name, image=image)


def document(**words: Any) -> Any:
    specs, balancer = behind(**words)
    found = json.loads(json.dumps(compose_document(*specs, balancer=balancer)))
    check_compose(found)
    return found


def test_golden() -> None:
    """To accept a change: AIM_GOLDEN=write pytest tests/deploy, then read the diff."""
    specs, balancer = behind()
    text = compose_text(*specs, balancer=balancer).replace(__version__, "VERSION")
    path = GOLDEN / "qwen3-32b-2-replicas.yaml"
    if os.environ.get("AIM_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()
    assert yaml.safe_load(text)["services"].keys() == document()["services"].keys()


def test_each_replica_has_its_own_render_nodes_and_health_port_and_no_other_port() -> None:
    services = list(document(count=4, gpu_count="2", port="9000")["services"].values())
    nodes = [service["devices"][1:] for service in services[:-1]]
    assert len({node for some in nodes for node in some}) == 8
    assert [service["ports"] for service in services[:-1]] == [[f"0.0.0.0:{8080 + n}:8080"] for n in range(4)]
    assert services[-1]["ports"] == ["0.0.0.0:9000:8000"]


def test_all_are_reached_by_one_name() -> None:
    services = list(document(name="mine")["services"].values())
    assert [service["container_name"] for service in services] == ["mine-1", "mine-2", "mine-balancer"]
    assert [service["networks"] for service in services[:-1]] == [{"default": {"aliases": ["mine-replicas"]}}] * 2
    assert services[-1]["networks"] == ["default"]
    assert "set $$replicas mine-replicas;" in services[-1]["environment"]["NGINX_CONFIGURATION"]
    joined = document(name="mine", network="models")
    assert joined["networks"] == {"models": {"external": True, "name": "models"}}
    assert [list(service["networks"]) for service in joined["services"].values()] == [["models"]] * 3


@pytest.mark.parametrize("network", ["host", "bridge"])
def test_networks_without_names(network: str) -> None:
    with pytest.raises(InputError, match="finds the replicas by a name"):
        behind(network=network)


def test_a_long_name_is_cut_where_a_label_ends() -> None:
    services = document(name="x" * 63)["services"]
    assert {len(service["container_name"]) for service in services.values()} == {63}
    aliases = {service["networks"]["default"]["aliases"][0] for service in list(services.values())[:-1]}
    assert [len(alias) for alias in aliases] == [63]


def test_the_image_is_whoever_s_who_starts_it_unless_named() -> None:
    assert document()["services"]["balancer"]["image"].startswith("${BALANCER_IMAGE:-nginx:")
    assert document(image="r.example/nginx:1")["services"]["balancer"]["image"] == "r.example/nginx:1"
    with pytest.raises(InputError, match="cannot be an image"):
        behind(image="-x")


def test_tls_and_the_key() -> None:
    """The certificate is the balancer's, and the replicas speak plain HTTP; the key is the replicas' to check."""
    found = document(tls_cert="/tls/c.pem", tls_key="/tls/k.pem", user="7:8", environment={"AIM_API_KEY": "s3cret"})
    *replicas, balancer = found["services"].values()
    assert "s3cret" not in json.dumps(found)
    for one in replicas:
        assert "AIM_TLS_CERT" not in one["environment"]
        assert one["labels"]["ai.aim-engine.scheme"] == "http"
        assert one["environment"]["AIM_API_KEY"].startswith("${AIM_API_KEY:?")
        assert not [mount for mount in one["volumes"] if "tls" in mount["target"]]
    assert [(mount["source"], mount["target"], mount["read_only"]) for mount in balancer["volumes"]] == [
        ("/tls/c.pem", "/config/tls/cert.pem", True), ("/tls/k.pem", "/config/tls/key.pem", True),
    ]  # fmt: skip
    assert balancer["user"] == "7:8"
    assert "AIM_API_KEY" not in balancer["environment"]
    assert "listen 8000 ssl;" in balancer["environment"]["NGINX_CONFIGURATION"]
    assert "ssl" not in document()["services"]["balancer"]["environment"]["NGINX_CONFIGURATION"]


def test_the_configuration_arrives_as_it_is() -> None:
    specs, balancer = behind()
    written = yaml.safe_load(compose_text(*specs, balancer=balancer))["services"]["balancer"]["environment"]
    assert interpolated(written["NGINX_CONFIGURATION"]) == balancer.configuration
    assert balancer.configuration.count("{") == balancer.configuration.count("}")
    assert not re.search(r"\{\w+\}", balancer.configuration)


def test_the_labels_of_a_group_and_the_balancer_is_no_endpoint() -> None:
    from aim_engine.deploy.listing import is_ours

    *replicas, balancer = document(name="mine")["services"].values()
    assert [one["labels"]["ai.aim-engine.replica"] for one in replicas] == ["1", "2"]
    assert {one["labels"]["ai.aim-engine.replica-group"] for one in replicas} == {"mine"}
    assert not is_ours(balancer["labels"])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"health_port": "7999"}, "2 ports from there have the API's, 8000, among them"),
        ({"health_port": "65535"}, "2 ports from there end beyond 65535"),
    ],
)
def test_health_ports_that_cannot_follow(flags: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        behind(**flags)


@needs_compose
def test_docker_compose_reads_it(tmp_path: Path) -> None:
    specs, balancer = behind(name="mine", tls_cert="/tls/c.pem", tls_key="/tls/k.pem")
    path = tmp_path / "compose.yaml"
    path.write_text(compose_text(*specs, balancer=balancer))
    services = read_by_compose(path, BALANCER_IMAGE="r.example/nginx:2")["services"]
    assert services["balancer"]["image"] == "r.example/nginx:2"
    read = services["balancer"]["environment"]["NGINX_CONFIGURATION"].replace("$$", "$")
    assert read == balancer.configuration
