"""How experiments enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.experiments.holding import holds
from modelops.domains.experiments.reconcilers import Heartbeats, Removal
from modelops.domains.experiments.routes import router
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="experiments",
    router=router,
    permissions={
        "experiments.read": Role.VIEWER,
        "experiments.write": Role.DATA_SCIENTIST,
        "runs.write": Role.DATA_SCIENTIST,
        "views.manage": Role.PROJECT_ADMIN,
    },
    reconcilers=[Heartbeats(), Removal()],
    holds=holds,
)
