"""How the registry enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.models.holding import holds
from modelops.domains.models.routes import router
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="models",
    router=router,
    permissions={
        "models.read": Role.VIEWER,
        "models.write": Role.DATA_SCIENTIST,
        "models.validate": Role.DATA_SCIENTIST,
        "models.promote": Role.ML_ENGINEER,
        "models.approve": Role.ML_ENGINEER,
        "models.delete": Role.ML_ENGINEER,
        "models.govern": Role.PROJECT_ADMIN,
        "models.unsafe": Role.PROJECT_ADMIN,
    },
    holds=holds,
)
