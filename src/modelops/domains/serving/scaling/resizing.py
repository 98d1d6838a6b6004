"""How many replicas a deployment shall have, changed: by people, by load, by a request that finds none."""

from datetime import datetime

from modelops.domains.serving.changes import begin
from modelops.domains.serving.errors import ScalesItself
from modelops.domains.serving.rows import scaling_of
from modelops.domains.serving.schemas import DeploymentUpdate
from modelops.domains.serving.tables import DeploymentRow


def resize(row: DeploymentRow, body: DeploymentUpdate) -> None:
    """Change the number of replicas, or what it follows.

    A deployment that begins to follow its load, or whose number is fixed while it is idle, has one replica at least.

    Raises:
        ScalesItself: a number is given, but it follows the load.
    """
    before = scaling_of(row)
    policy = None if body.autoscaling == "off" else body.autoscaling or before
    if policy is not None and body.replicas is not None:
        raise ScalesItself(f"The number of replicas of '{row.name}' follows its load.")
    replicas = row.replicas if body.replicas is None else body.replicas
    idle = before is not None and before.sleeps and row.replicas == 0
    if policy is not None and not (idle and policy.sleeps):
        replicas = policy.bound(replicas)
    elif policy is None and idle and body.replicas is None:
        replicas = 1
    if replicas != row.replicas or policy != before:
        row.replicas = replicas
        row.autoscaling = None if policy is None else policy.model_dump(mode="json")
        begin(row)


def wake(row: DeploymentRow, now: datetime) -> bool:
    """Give a deployment that was scaled to zero replicas again; tell whether it was."""
    policy = scaling_of(row)
    if policy is None or row.replicas > 0 or row.deleting:
        return False
    row.replicas, row.scaled_at = policy.bound(0), now
    begin(row)
    return True
