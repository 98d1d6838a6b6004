"""What steps may do: of what pipelines are for, that which whoever started the run may do too."""

from modelops.kernel.context import Context

STEP_PERMISSIONS = (
    "artifacts.read",
    "artifacts.write",
    "datasets.read",
    "datasets.write",
    "experiments.read",
    "experiments.write",
    "runs.write",
    "models.read",
    "models.write",
    "models.validate",
    "models.promote",
    "jobs.read",
    "jobs.write",
    "deployments.read",
    "deployments.write",
    "deployments.predict",
    "monitoring.read",
    "monitoring.write",
    "studies.read",
    "studies.write",
    "pipelines.read",
    "pipelines.write",
)


def step_permissions(ctx: Context) -> list[str]:
    """Return what the steps of a run may do that the caller begins."""
    return [permission for permission in STEP_PERMISSIONS if ctx.can(permission)]
