"""How compute enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.compute.reconcilers import Admission
from modelops.domains.compute.routes import router
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="compute",
    router=router,
    permissions={
        "compute.read": Role.VIEWER,
        "compute.write": Role.PLATFORM_ADMIN,
        "quotas.write": Role.PROJECT_ADMIN,
        "metrics.read": Role.PLATFORM_ADMIN,
    },
    reconcilers=(Admission(),),
)
