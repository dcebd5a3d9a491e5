"""What is asked of the objects besides the plan: frozen values, made of flags. Knows no plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MEGABYTE = 1_000_000
NAMINGS = ("single", "mixed")

# No user of the image, and no root, as clusters with the restricted Pod Security Standard ask for. AMD's own operator
# runs its discovery jobs as the same one.
DEFAULT_USER = "65532:65532"
# What Prometheus' operator calls the Service of its instances, in the namespace that most put it in.
DEFAULT_PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a start is taken to be: bytes a second from the hub and from the cache's disk, and the seconds that
    compiling and capturing graphs take (None: as the plan's engine is known to).
    """

    network: int = 100 * MEGABYTE
    disk: int = 300 * MEGABYTE
    compile_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterWishes:
    """None is what the plan would take. `groups` are numbers of the nodes' render group; `spare_gpus` are those of the
    cluster that nobody uses, besides the pods' own; `unconfined` takes the profile of system calls away; `claim` and
    `model_claim` are PersistentVolumeClaims that are there already; `named` are further variables whose values are in
    the secret. `most_replicas` and the address of `prometheus` are for autoscaling, `monitor_labels` are what a
    Prometheus chooses its monitors by.
    """

    image: str | None = None
    name: str | None = None
    namespace: str | None = None
    replicas: int = 1
    local_cache: bool = False
    spare_gpus: int | None = None
    user: str = DEFAULT_USER
    groups: tuple[int, ...] = ()
    naming: str = "single"
    unconfined: bool = False
    cpus: int | None = None
    memory_bytes: int | None = None
    shm_bytes: int | None = None
    cache_bytes: int | None = None
    claim: str | None = None
    storage_class: str | None = None
    model_claim: str | None = None
    secret: str | None = None
    tls_secret: str | None = None
    pull_secret: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    pace: Pace = field(default_factory=Pace)
    most_replicas: int | None = None
    prometheus: str = DEFAULT_PROMETHEUS
    monitor_labels: Mapping[str, str] = field(default_factory=dict)
