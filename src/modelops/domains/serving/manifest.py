"""How serving enters the platform."""

import atexit

from modelops.contracts.roles import Role
from modelops.domains.models.ports import Downstream
from modelops.domains.serving.control import ReplicaControl
from modelops.domains.serving.gateway import Gateway
from modelops.domains.serving.lineage import deployments_of
from modelops.domains.serving.reconcilers import DeploymentReconciler, OrphanReconciler
from modelops.domains.serving.retention import PredictionLogReconciler, holds
from modelops.domains.serving.routes import router
from modelops.kernel.manifest import Manifest

_gateway = Gateway()
_control = ReplicaControl()
atexit.register(_gateway.close)
atexit.register(_control.close)


manifest = Manifest(
    name="serving",
    router=router,
    permissions={
        "deployments.read": Role.VIEWER,
        "deployments.predict": Role.DATA_SCIENTIST,
        "deployments.write": Role.ML_ENGINEER,
        "prediction_logs.read": Role.ML_ENGINEER,
    },
    reconcilers=(DeploymentReconciler(), OrphanReconciler(), PredictionLogReconciler()),
    holds=holds,
    provides={Gateway: _gateway, ReplicaControl: _control, Downstream: deployments_of},
)
