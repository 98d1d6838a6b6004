"""How training enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.training.artifacts import holds
from modelops.domains.training.reconcilers import Jobs, Leaks
from modelops.domains.training.routes import router
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="training",
    router=router,
    permissions={"jobs.read": Role.VIEWER, "jobs.write": Role.DATA_SCIENTIST},
    reconcilers=[Jobs(), Leaks()],
    holds=holds,
)
