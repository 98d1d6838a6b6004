"""How tuning enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.tuning.reconcilers import Leases
from modelops.domains.tuning.routes import router
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="tuning",
    router=router,
    permissions={"studies.read": Role.VIEWER, "studies.write": Role.DATA_SCIENTIST},
    reconcilers=[Leases()],
)
