"""How data enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.data.holding import holds
from modelops.domains.data.reconcilers import GarbageCollector
from modelops.domains.data.routes import router
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="data",
    router=router,
    permissions={
        "artifacts.read": Role.VIEWER,
        "artifacts.write": Role.DATA_SCIENTIST,
        "artifacts.delete": Role.ML_ENGINEER,
        "artifacts.manage": Role.PLATFORM_ADMIN,
        "datasets.read": Role.VIEWER,
        "datasets.write": Role.DATA_SCIENTIST,
    },
    reconcilers=[GarbageCollector()],
    holds=holds,
)
