"""How serving enters the platform."""

import atexit

from modelops.contracts.roles import Role
from modelops.domains.models.ports import Downstream
from modelops.domains.serving.holding import Holding
from modelops.domains.serving.lineage import deployments_of
from modelops.domains.serving.logs.retention import PredictionLogReconciler, holds
from modelops.domains.serving.reconcilers import DeploymentReconciler, OrphanReconciler
from modelops.domains.serving.replicas.control import ReplicaControl
from modelops.domains.serving.replicas.gateway import Gateway
from modelops.domains.serving.routes import router
from modelops.domains.serving.scaling.observations import Observations
from modelops.domains.serving.scaling.scaling import ScalingReconciler
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
    reconcilers=(DeploymentReconciler(), OrphanReconciler(), PredictionLogReconciler(), ScalingReconciler()),
    holds=holds,
    provides={
        Gateway: _gateway,
        ReplicaControl: _control,
        Downstream: deployments_of,
        Observations: Observations(),
        Holding: Holding(),
    },
)
