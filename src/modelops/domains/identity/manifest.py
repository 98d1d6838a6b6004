"""How identity enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.identity.authentication import PlatformAuthenticator
from modelops.domains.identity.routes import router
from modelops.kernel.callers import Authenticator
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="identity",
    router=router,
    permissions={
        "principals.read": Role.VIEWER,
        "principals.write": Role.PROJECT_ADMIN,
        "projects.write": Role.PROJECT_ADMIN,
        "audit.read": Role.PROJECT_ADMIN,
        "tenants.read": Role.PLATFORM_ADMIN,
        "tenants.write": Role.PLATFORM_ADMIN,
        "signing_keys.write": Role.PLATFORM_ADMIN,
    },
    provides={Authenticator: PlatformAuthenticator()},
)
