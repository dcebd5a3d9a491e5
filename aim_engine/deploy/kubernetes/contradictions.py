"""What cannot all be had at once: a plan and wishes in, an error or sentences for whoever asked out. Pure.

Each would be found in the cluster only, by a pod that does not come up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from aim_engine.deploy.inside import API_PORT, HEALTH_PORT
from aim_engine.deploy.kubernetes.startup import Startup, weights_bytes
from aim_engine.deploy.kubernetes.wishes import ClusterWishes
from aim_engine.errors import InputError
from aim_engine.plan import Plan
from aim_engine.selection.candidate import gpus_of_type
from aim_engine.selection.memory import in_gib

# The most that AIM_START_TIMEOUT takes (values.seconds), a third of a year; more is a speed mistyped.
_LONGEST_START = 9_999_999
_OWN_ADDRESS = "VLLM_HOST_IP"


def check_wishes(plan: Plan, wishes: ClusterWishes, *, shm_bytes: int, startup: Startup) -> None:
    """That the wishes are not against each other, or the plan.

    Raises:
        InputError: two of them are.
    """
    if wishes.claim is not None and (wishes.storage_class or wishes.cache_bytes):
        flag = "--storage-class" if wishes.storage_class else "--cache-size"
        raise InputError(f"--cache-claim is a volume that is there, and {flag} is for one that is made",
                         hint="leave one of them out")  # fmt: skip
    if wishes.memory_bytes is not None and wishes.memory_bytes <= shm_bytes:
        raise InputError(
            f"--memory {in_gib(wishes.memory_bytes)} does not hold even /dev/shm, whose {in_gib(shm_bytes)} are memory "
            "of the pod", hint="give it more; without --memory it is what the plan needs",
        )  # fmt: skip
    if startup.cold_seconds > _LONGEST_START:
        raise InputError(f"at these speeds a start takes {startup.cold_seconds // 86_400} days",
                         hint="--network-speed and --disk-speed are bytes a second: 100m, 1g")  # fmt: skip
    port = plan.request.leader_port
    if plan.winner.nodes > 1 and port in (API_PORT, HEALTH_PORT):
        raise InputError(f"--leader-port {port} is the {'API' if port == API_PORT else 'health sidecar'}'s in a pod",
                         hint="leave it out, or use another")  # fmt: skip


def check_variables(wishes: ClusterWishes, passed: Collection[str], *, nodes: int) -> None:
    """That every variable has one value: of a list with two of a name no API server makes the same thing.

    Raises:
        InputError: one of them has several.
    """
    secret = {*passed, *wishes.named}
    for name in wishes.extra:
        if name in secret:
            raise InputError(f"--env {name}=...: its value is in the secret already", hint="leave one of them out")
    if nodes > 1 and _OWN_ADDRESS in {*wishes.extra, *wishes.named}:
        raise InputError(f"--env {_OWN_ADDRESS}: every pod of a group has its own address", hint="leave it out")


_NOT_OF_A_POD = {
    "host": "in a pod the server listens on all addresses; the NetworkPolicy says who may ask it",
    "state_dir": "in a pod the state is in a volume of its own",
    "log_name": "in a pod nothing is logged to files; kubectl logs has all that is written",
}


def doubts(plan: Plan, wishes: ClusterWishes) -> Iterator[str]:
    """What can be had, and is likely not meant."""
    weights = weights_bytes(plan)
    if wishes.cache_bytes is not None and weights and wishes.cache_bytes < weights and not plan.request.model_folder:
        yield f"--cache-size {in_gib(wishes.cache_bytes)} does not hold the weights, which are {in_gib(weights)}"
    for field, instead in _NOT_OF_A_POD.items():
        if plan.request.origins.get(field) == "flag":
            yield f"--{field.replace('_', '-')} is left out: {instead}"
    winner = plan.winner
    if winner.gpus[0].device_id and len(gpus_of_type(plan.inventory, winner.recipe.gpu_type)) < len(
        plan.inventory.gpus
    ):
        yield ("the GPUs of that node are not all alike: AMD's node labeller gives it no such label, and its device "
               "plugin does not tell them apart, so pods may wait for ever or get others")  # fmt: skip
