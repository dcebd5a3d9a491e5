"""How a new image or recipe takes the place of the old one: a plan and the GPUs to spare in, a strategy and its reason
out. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aim_engine.deploy.devices import access_of
from aim_engine.deploy.kubernetes.wishes import ClusterWishes
from aim_engine.plan import Plan
from aim_engine.selection.candidate import gpus_of_type


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """With `surge` a new pod is ready before an old one goes; `same_node` where the spare GPUs are on the pod's own
    node, and so a volume that only one node can mount will do; neither surge nor `one_at_a_time` is Recreate.
    """

    surge: bool = False
    one_at_a_time: bool = False
    same_node: bool = False
    why: str


def rollout_of(plan: Plan, wishes: ClusterWishes) -> Rollout:
    """The strategy that cuts no stream and needs no GPU that is not there."""
    count, replicas = plan.winner.gpu_count, wishes.replicas
    if plan.winner.nodes > 1:
        return _of_groups(plan, wishes)
    if wishes.local_cache:
        return Rollout(one_at_a_time=True, why=_ONE_AFTER_THE_OTHER.format(
            why="a StatefulSet replaces a pod where its volume is"))  # fmt: skip
    if not access_of(plan).cluster_resource:
        return Rollout(surge=True, same_node=replicas == 1,
                       why="a new pod is ready before an old one goes: no GPU is needed for it")  # fmt: skip
    if wishes.spare_gpus is not None:
        spare, where = wishes.spare_gpus, "are to spare in the cluster (--spare-gpus)"
    else:
        spare, where = _left_on_the_node(plan, replicas), "are left on a node of the planned kind"
    said = f"{gpus(spare)} {where if spare != 1 else where.replace('are ', 'is ', 1)}"
    if spare >= count:
        return Rollout(surge=True, same_node=replicas == 1 and wishes.spare_gpus is None, why=(
            f"a new pod is ready before an old one goes: it needs {gpus(count)}, and {said}. Where others use them it "
            "waits for ever: with --spare-gpus 0 an old one goes first"))  # fmt: skip
    if replicas > 1:
        return Rollout(one_at_a_time=True, why=_ONE_AFTER_THE_OTHER.format(
            why=f"a pod more would need {gpus(count)}, and {said}"))  # fmt: skip
    return Rollout(why=(
        f"Recreate: a pod more would need {gpus(count)}, and {said}, so the old one must go first. Requests in flight "
        "are finished (AIM_DRAIN_TIMEOUT), and until the new one is ready there is none. With --spare-gpus or "
        "--replicas there always is"
    ))  # fmt: skip


def _of_groups(plan: Plan, wishes: ClusterWishes) -> Rollout:
    """Of pods that serve together: a group is replaced whole."""
    needed, spare = plan.winner.gpu_count * plan.winner.nodes, wishes.spare_gpus or 0
    if not access_of(plan).cluster_resource:
        return Rollout(surge=True, why="a new group is ready before an old one goes: no GPU is needed for it")
    said = f"a group more would need {gpus(needed)}, and {spare} are said to be to spare (--spare-gpus)"
    if spare >= needed:
        return Rollout(surge=True, why=f"a new group is ready before an old one goes: {said}")
    return Rollout(one_at_a_time=True, why=(
        f"one group after the other: {said}. Requests in flight are finished (AIM_DRAIN_TIMEOUT)"))  # fmt: skip


_ONE_AFTER_THE_OTHER = (
    "one after the other, and no pod more than there are: {why}. The others serve meanwhile, where there are others"
)


def while_scaled(rollout: Rollout, *, on_devices: bool) -> Rollout:
    """The strategy of pods whose number changes by itself: no GPU is known to be to spare, and they are on several
    nodes.
    """
    if rollout.surge and not on_devices:
        return replace(rollout, same_node=False)
    return Rollout(one_at_a_time=True, why=_ONE_AFTER_THE_OTHER.format(
        why="what GPUs are to spare, autoscaling may have taken"))  # fmt: skip


def gpus(count: int) -> str:
    """`1 GPU`, `8 GPUs`."""
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def _left_on_the_node(plan: Plan, replicas: int) -> int:
    """What these pods would leave of the one node that is known, if they all fit on it."""
    there = len(gpus_of_type(plan.inventory, plan.winner.recipe.gpu_type))
    return max(0, there - replicas * plan.winner.gpu_count)
