"""The client of identity."""

from collections.abc import Iterator, Sequence
from typing import Any

from modelops.contracts.rest import Group
from modelops.contracts.roles import Role
from modelops.contracts.schemas import Page
from modelops.domains.identity.schemas import (
    AccessToken,
    ApiKey,
    ApiKeyCreate,
    ApiKeyCreated,
    AuditRecord,
    KeyPurpose,
    KeyRotation,
    Me,
    Member,
    MemberSet,
    Principal,
    PrincipalUpdate,
    Project,
    ProjectCreate,
    ProjectUpdate,
    ServiceAccountCreate,
    SigningKey,
    Tenant,
    TenantCreate,
    TokenCreate,
    UserCreate,
)


class Identity(Group):
    """Tenants, projects, users, service accounts, keys, tokens and the audit trail.

    Listings take `limit`, `cursor`, `filter` and `order_by`.
    """

    def get_me(self) -> Me:
        """Return who the platform takes the caller for."""
        return self._get(Me, "/me")

    def issue_token(
        self, *, project: str | None = None, expires_in_s: int | None = None, permissions: Sequence[str] | None = None
    ) -> AccessToken:
        """Issue an access token for one project, with all of one's permissions or only those named."""
        wanted = list(permissions) if permissions is not None else None
        body = TokenCreate(project=project, expires_in_s=expires_in_s, permissions=wanted)
        return self._post(AccessToken, "/auth/token", body)

    def create_tenant(self, name: str, *, display_name: str = "") -> Tenant:
        """Make a tenant, with a first project `default`."""
        return self._post(Tenant, "/tenants", TenantCreate(name=name, display_name=display_name))

    def list_tenants(self, **page: Any) -> Page[Tenant]:
        """List the tenants that the caller may know of."""
        return self._list(Tenant, "/tenants", **page)

    def get_tenant(self, tenant: str) -> Tenant:
        """Return a tenant, by name or id."""
        return self._get(Tenant, f"/tenants/{tenant}")

    def create_project(self, name: str, *, description: str = "", tenant: str | None = None) -> Project:
        """Make a project; its maker administers it."""
        return self._post(Project, "/projects", ProjectCreate(name=name, description=description, tenant=tenant))

    def list_projects(self, **page: Any) -> Page[Project]:
        """List the projects that the caller belongs to."""
        return self._list(Project, "/projects", **page)

    def get_project(self, project: str) -> Project:
        """Return a project, by name or id."""
        return self._get(Project, f"/projects/{project}")

    def update_project(self, project: str, *, description: str | None = None, revision: int | None = None) -> Project:
        """Change a project; with `revision`, only while it is still at that one."""
        return self._patch(Project, f"/projects/{project}", ProjectUpdate(description=description), revision)

    def list_members(self, project: str) -> Page[Member]:
        """List who has which role in a project."""
        return self._list(Member, f"/projects/{project}/members")

    def set_member(self, project: str, principal: str, role: Role | str) -> Member:
        """Give a principal a role in a project."""
        return self._put(Member, f"/projects/{project}/members/{principal}", MemberSet(role=Role(role)))

    def remove_member(self, project: str, principal: str) -> None:
        """Take a principal out of a project."""
        self._delete(f"/projects/{project}/members/{principal}")

    def create_user(self, name: str, *, email: str | None = None, role: Role | str = Role.VIEWER) -> Principal:
        """Make a user with a role in the current project."""
        return self._post(Principal, "/users", UserCreate(name=name, email=email, role=Role(role)))

    def list_users(self, **page: Any) -> Page[Principal]:
        """List the users of the tenant."""
        return self._list(Principal, "/users", **page)

    def get_user(self, user: str) -> Principal:
        """Return a user, by name or id."""
        return self._get(Principal, f"/users/{user}")

    def update_user(
        self,
        user: str,
        *,
        disabled: bool | None = None,
        email: str | None = None,
        platform_admin: bool | None = None,
        revision: int | None = None,
    ) -> Principal:
        """Change or disable a user; with `revision`, only while it is still at that one."""
        body = PrincipalUpdate(disabled=disabled, email=email, platform_admin=platform_admin)
        return self._patch(Principal, f"/users/{user}", body, revision)

    def create_service_account(self, name: str, *, role: Role | str = Role.VIEWER) -> Principal:
        """Make a service account with a role in the current project."""
        return self._post(Principal, "/service-accounts", ServiceAccountCreate(name=name, role=Role(role)))

    def list_service_accounts(self, **page: Any) -> Page[Principal]:
        """List the service accounts of the tenant."""
        return self._list(Principal, "/service-accounts", **page)

    def get_service_account(self, account: str) -> Principal:
        """Return a service account, by name or id."""
        return self._get(Principal, f"/service-accounts/{account}")

    def update_service_account(
        self, account: str, *, disabled: bool | None = None, revision: int | None = None
    ) -> Principal:
        """Change or disable a service account; with `revision`, only while it is still at that one."""
        return self._patch(Principal, f"/service-accounts/{account}", PrincipalUpdate(disabled=disabled), revision)

    def create_api_key(
        self, name: str, *, principal: str | None = None, expires_in_days: int | None = 365
    ) -> ApiKeyCreated:
        """Make an API key, one's own or a principal's that one administers; its secret is in the answer only."""
        body = ApiKeyCreate(name=name, principal=principal, expires_in_days=expires_in_days)
        return self._post(ApiKeyCreated, "/api-keys", body)

    def list_api_keys(self, **page: Any) -> Page[ApiKey]:
        """List one's own API keys and those one administers."""
        return self._list(ApiKey, "/api-keys", **page)

    def revoke_api_key(self, key_id: str) -> None:
        """End an API key and the tokens issued on it."""
        self._delete(f"/api-keys/{key_id}")

    def list_signing_keys(self) -> Page[SigningKey]:
        """List the platform's public signing keys."""
        return self._list(SigningKey, "/signing-keys")

    def rotate_signing_keys(self, purpose: KeyPurpose | str = KeyPurpose.TOKENS) -> SigningKey:
        """Sign with a new key from now on."""
        return self._post(SigningKey, "/signing-keys/rotate", KeyRotation(purpose=KeyPurpose(purpose)))

    def list_audit_records(self, **page: Any) -> Page[AuditRecord]:
        """List what was done or denied in the project, newest first."""
        return self._list(AuditRecord, "/audit", **page)

    def all_audit_records(self, **page: Any) -> Iterator[AuditRecord]:
        """Walk the audit trail, newest first."""
        return self._all(AuditRecord, "/audit", **page)
