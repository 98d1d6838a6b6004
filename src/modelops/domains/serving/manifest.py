"""How serving enters the platform."""

import atexit

from sqlalchemy import func, select

from modelops.contracts.roles import Role
from modelops.domains.serving.gateway import Gateway
from modelops.domains.serving.reconcilers import DeploymentReconciler, OrphanReconciler
from modelops.domains.serving.routes import router
from modelops.domains.serving.schemas import DeploymentState
from modelops.domains.serving.tables import DeploymentRow
from modelops.kernel.context import Context
from modelops.kernel.manifest import Manifest

_gateway = Gateway()
atexit.register(_gateway.close)


def _deployments(ctx: Context) -> float:
    return ctx.session.scalar(select(func.count()).select_from(DeploymentRow)) or 0


def _ready(ctx: Context) -> float:
    serving = (DeploymentState.READY, DeploymentState.ROLLED_BACK)
    query = select(func.count()).select_from(DeploymentRow).where(DeploymentRow.state.in_(serving))
    return ctx.session.scalar(query) or 0


manifest = Manifest(
    name="serving",
    router=router,
    permissions={
        "deployments.read": Role.VIEWER,
        "deployments.predict": Role.DATA_SCIENTIST,
        "deployments.write": Role.ML_ENGINEER,
    },
    reconcilers=(DeploymentReconciler(), OrphanReconciler()),
    provides={Gateway: _gateway},
    metrics={
        "modelops_deployments": ("Deployments of all projects.", _deployments),
        "modelops_deployments_ready": ("Deployments whose replicas are all ready.", _ready),
    },
)
