"""Who reaches the pods, and whom they reach."""

from __future__ import annotations

from typing import Any

from tests.deploy.kubernetes.clusters import cluster, objects
from tests.deploy.planning import planned


def policy(environment: dict[str, str] | None = None, extra: dict[str, str] | None = None, **flags: str) -> Any:
    return objects(cluster(planned(environment or {}, **flags), extra=extra or {}))["NetworkPolicy"]["spec"]


def ports(rules: Any) -> list[list[Any]]:
    return [[one["port"] for one in rule["ports"]] for rule in rules]


def test_in_to_the_api_and_the_sidecar_alone() -> None:
    assert ports(policy()["ingress"]) == [[8000, 8080]]
    assert set(policy()["policyTypes"]) == {"Ingress", "Egress"}


def test_out_to_dns_and_the_hub() -> None:
    assert ports(policy()["egress"]) == [[53, 53, 5353, 5353], [443]], "OpenShift's DNS pods listen on 5353"


def test_out_to_another_hub_and_a_proxy() -> None:
    assert ports(policy({"HF_ENDPOINT": "http://hub.example:8080"})["egress"])[1] == [443, 8080]
    assert ports(policy(extra={"HTTPS_PROXY": "http://proxy:3128"})["egress"])[1] == [443, 3128]
    assert ports(policy(extra={"HTTPS_PROXY": "http://proxy:none"})["egress"])[1] == [443]


def test_offline_it_reaches_nobody() -> None:
    assert policy(offline="1")["egress"] == []


def test_the_service_has_the_ports_that_were_asked_for() -> None:
    made = objects(cluster(planned(port="80", health_port="9000"), name="mine"))["Service"]
    assert [(one["name"], one["port"], one["targetPort"]) for one in made["spec"]["ports"]] == [
        ("api", 80, "api"),
        ("health", 9000, "health"),
    ]
    assert made["spec"]["ports"][0]["appProtocol"] == "http"
    tls = objects(cluster(tls_secret="x"))["Service"]["spec"]["ports"]
    assert [one["appProtocol"] for one in tls] == ["https", "http"]


def test_everything_is_selected_by_the_pods_labels() -> None:
    spec = cluster(name="mine")
    found = objects(spec)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/instance"] == "mine"
