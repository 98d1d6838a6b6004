"""How many replicas a deployment shall have, changed: by people, by load, by a request that finds none."""

from datetime import datetime

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import jsonable
from modelops.domains.serving.changes import begin
from modelops.domains.serving.errors import ScalesItself
from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.policies.clusterscaling import ScalingPolicy
from modelops.domains.serving.rows import cluster_scaling_of, followed, scaling_of
from modelops.domains.serving.schemas import DeploymentUpdate, Target
from modelops.domains.serving.tables import DeploymentRow
from modelops.kernel.context import Context


def resize(row: DeploymentRow, body: DeploymentUpdate) -> None:
    """Change the number of replicas, or what it follows.

    A deployment that begins to follow its load, or whose number is fixed while it is idle, has one replica at least.

    Raises:
        ScalesItself: a number is given, but it follows the load.
        InvalidInput: the cluster is to scale what is in none.
    """
    before = followed(row)
    policy = None if body.autoscaling == "off" else body.autoscaling or before
    refuse_scaling(Target(row.target), policy)
    if policy is not None and body.replicas is not None:
        raise ScalesItself(f"The number of replicas of '{row.name}' follows its load.")
    replicas = row.replicas if body.replicas is None else body.replicas
    idle = _sleeps(before) and row.replicas == 0
    if policy is not None and not (idle and _sleeps(policy)):
        replicas = policy.bound(replicas)
    elif policy is None and idle and body.replicas is None:
        replicas = 1
    if replicas != row.replicas or policy != before:
        row.replicas = replicas
        row.autoscaling = None if policy is None else policy.model_dump(mode="json")
        begin(row)


def follow(ctx: Context, row: DeploymentRow, scaled: int | None) -> None:
    """Take over how many replicas the cluster wants, where it decides."""
    policy, before = cluster_scaling_of(row), row.replicas
    if policy is None or scaled in (None, before) or row.deleting:
        return
    row.replicas, row.scaled_at = scaled or 0, ctx.clock.now()
    if row.waited_s is None:
        begin(row)
    reason = f"The cluster scaled it, by {policy.by}."
    about = {"name": row.name, "before": before, "replicas": row.replicas, "reason": reason}
    ctx.emit("modelops.serving.deployment_scaled", row.id, **about, policy=jsonable(policy))


def refuse_scaling(target: Target, policy: ScalingPolicy | None) -> None:
    """Refuse scaling by a cluster where there is none. Raises InvalidInput."""
    if target is Target.LOCAL and policy is not None and not isinstance(policy, Autoscaling):
        raise InvalidInput(
            f"Its replicas run on the platform's machines, where no '{policy.by}' scales.",
            hint="Leave `by` out: then the platform scales it by its requests. Or deploy it to the target `kubernetes`.",
        )


def _sleeps(policy: ScalingPolicy | None) -> bool:
    return isinstance(policy, Autoscaling) and policy.sleeps


def wake(row: DeploymentRow, now: datetime) -> bool:
    """Give a deployment that was scaled to zero replicas again; tell whether it was."""
    policy = scaling_of(row)
    if policy is None or row.replicas > 0 or row.deleting:
        return False
    row.replicas, row.scaled_at = policy.bound(0), now
    begin(row)
    return True
