"""ClusterSpec → who may reach the pods, and whom they may reach: Services and a NetworkPolicy. Pure."""

from __future__ import annotations

from aim_engine.deploy.inside import API_PORT, HEALTH_PORT
from aim_engine.deploy.kubernetes.leader_worker_set import leaders, of_the_group
from aim_engine.deploy.kubernetes.manifest import Manifest, manifest
from aim_engine.deploy.kubernetes.pod import API, HEALTH
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.yaml_text import Note

# 5353 is where OpenShift's DNS pods listen: a policy is about the port of the pod, not about that of its Service.
_DNS_PORTS = (53, 5353)


def service(spec: ClusterSpec) -> Manifest:
    """The one address of all pods that are ready."""
    return manifest("v1", "Service", spec.name, namespace=spec.namespace, labels=spec.labels, spec={
        "type": "ClusterIP",
        "selector": leaders(spec) if spec.nodes > 1 else spec.selector,
        "ports": [_port(API, spec.api_port, spec.scheme), _port(HEALTH, spec.health_port, "http")],
    })  # fmt: skip


def headless_service(spec: ClusterSpec) -> Manifest:
    """A name for each pod of a StatefulSet, which wants one. No ServiceMonitor finds it by its labels: each pod would
    be scraped twice.
    """
    labels = {**spec.labels, "app.kubernetes.io/component": "pods"}
    return manifest("v1", "Service", f"{spec.name}-pods", namespace=spec.namespace, labels=labels, spec={
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": spec.selector,
        "ports": [_port(API, API_PORT, spec.scheme), _port(HEALTH, HEALTH_PORT, "http")],
    })  # fmt: skip


def _port(name: str, number: int, protocol: str) -> Manifest:
    return {"name": name, "port": number, "targetPort": name, "protocol": "TCP", "appProtocol": protocol}


def network_policy(spec: ClusterSpec) -> Manifest:
    """In to the API and the health sidecar; out to DNS and to where weights come from, or nowhere."""
    api = "networking.k8s.io/v1"
    return manifest(api, "NetworkPolicy", spec.name, namespace=spec.namespace, labels=spec.labels, spec={
        "podSelector": {"matchLabels": spec.selector},
        "policyTypes": ["Ingress", "Egress"],
        Note("from anywhere; `from` narrows it down. The probes of the node's kubelet are always let in"): None,
        "ingress": [{"ports": [_tcp(API_PORT), _tcp(HEALTH_PORT)]}, *({"from": [peer]} for peer in _peers(spec))],
        **_egress(spec),
    })  # fmt: skip


def _peers(spec: ClusterSpec) -> list[Manifest]:
    """With whom a pod may talk on any port."""
    return [of_the_group(spec)] if spec.nodes > 1 else []


def _egress(spec: ClusterSpec) -> Manifest:
    dns: Manifest = {"ports": [one for port in _DNS_PORTS for one in ({"protocol": "UDP", "port": port}, _tcp(port))]}
    if peers := _peers(spec):
        hub = [{"ports": [_tcp(port) for port in spec.hub_ports]}] if spec.hub_ports else []
        return {
            Note("to the pods that serve together, on the ports that their engines choose; to DNS, by which the leader "
                 "is found; and to the hub or a proxy, unless AIM_OFFLINE=1"): None,
            "egress": [{"to": peers}, dns, *hub],
        }  # fmt: skip
    if not spec.hub_ports:
        return {Note("to nobody: AIM_OFFLINE=1"): None, "egress": []}
    return {
        Note("DNS (5353 is that of OpenShift's pods), and the ports of the hub or a proxy: a policy cannot name hosts. "
             "Once the weights are in the cache, --offline needs none of it"): None,
        "egress": [
            dns,
            {"ports": [_tcp(port) for port in spec.hub_ports]},
        ],
    }  # fmt: skip


def _tcp(port: int) -> Manifest:
    return {"protocol": "TCP", "port": port}
