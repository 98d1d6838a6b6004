"""How webhooks enter the platform."""

from modelops.contracts.roles import Role
from modelops.domains.webhooks.reconcilers import Courier, Intake
from modelops.domains.webhooks.routes import router
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="webhooks",
    router=router,
    permissions={"webhooks.read": Role.ML_ENGINEER, "webhooks.write": Role.PROJECT_ADMIN},
    reconcilers=(Intake(), Courier()),
)
