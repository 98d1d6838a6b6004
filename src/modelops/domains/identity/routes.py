"""Routes of identity."""

from fastapi import Response

from modelops.contracts.schemas import Page
from modelops.domains.identity import service
from modelops.domains.identity.schemas import (
    AccessToken,
    ApiKey,
    ApiKeyCreate,
    ApiKeyCreated,
    AuditRecord,
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
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router

router = Router("identity")


@router.get("/me")
def get_me(ctx: Context) -> Me:
    """Tell the caller who the platform takes it for."""
    return service.get_me(ctx)


@router.post("/auth/token", status_code=201, response_model=AccessToken)
def issue_token(ctx: Context, body: TokenCreate) -> Response:
    """Issue an access token for one project."""
    return _secret(service.issue_token(ctx, body))


@router.post("/tenants", status_code=201)
def create_tenant(ctx: Context, body: TenantCreate) -> Tenant:
    """Make a tenant, with a first project `default`."""
    return service.create_tenant(ctx, body)


@router.get("/tenants")
def list_tenants(ctx: Context, page: Listing) -> Page[Tenant]:
    """List the tenants that the caller may know of."""
    return service.list_tenants(ctx, page)


@router.get("/tenants/{tenant}")
def get_tenant(ctx: Context, tenant: Ref) -> Tenant:
    """Return a tenant."""
    return service.get_tenant(ctx, tenant)


@router.post("/projects", status_code=201)
def create_project(ctx: Context, body: ProjectCreate) -> Project:
    """Make a project; its maker administers it."""
    return service.create_project(ctx, body)


@router.get("/projects")
def list_projects(ctx: Context, page: Listing) -> Page[Project]:
    """List the projects that the caller belongs to."""
    return service.list_projects(ctx, page)


@router.get("/projects/{project}")
def get_project(ctx: Context, project: Ref) -> Project:
    """Return a project."""
    return service.get_project(ctx, project)


@router.patch("/projects/{project}")
def update_project(ctx: Context, project: Ref, body: ProjectUpdate) -> Project:
    """Change a project."""
    return service.update_project(ctx, project, body)


@router.get("/projects/{project}/members")
def list_members(ctx: Context, project: Ref) -> Page[Member]:
    """List who has which role in a project."""
    return service.list_members(ctx, project)


@router.put("/projects/{project}/members/{principal}")
def set_member(ctx: Context, project: Ref, principal: Ref, body: MemberSet) -> Member:
    """Give a principal a role in a project."""
    return service.set_member(ctx, project, principal, body)


@router.delete("/projects/{project}/members/{principal}", status_code=204)
def remove_member(ctx: Context, project: Ref, principal: Ref) -> None:
    """Take a principal out of a project."""
    return service.remove_member(ctx, project, principal)


@router.post("/users", status_code=201)
def create_user(ctx: Context, body: UserCreate) -> Principal:
    """Make a user with a role in the current project."""
    return service.create_user(ctx, body)


@router.get("/users")
def list_users(ctx: Context, page: Listing) -> Page[Principal]:
    """List the users of the tenant."""
    return service.list_users(ctx, page)


@router.get("/users/{user}")
def get_user(ctx: Context, user: Ref) -> Principal:
    """Return a user."""
    return service.get_user(ctx, user)


@router.patch("/users/{user}")
def update_user(ctx: Context, user: Ref, body: PrincipalUpdate) -> Principal:
    """Change or disable a user."""
    return service.update_user(ctx, user, body)


@router.post("/service-accounts", status_code=201)
def create_service_account(ctx: Context, body: ServiceAccountCreate) -> Principal:
    """Make a service account with a role in the current project."""
    return service.create_service_account(ctx, body)


@router.get("/service-accounts")
def list_service_accounts(ctx: Context, page: Listing) -> Page[Principal]:
    """List the service accounts of the tenant."""
    return service.list_service_accounts(ctx, page)


@router.get("/service-accounts/{account}")
def get_service_account(ctx: Context, account: Ref) -> Principal:
    """Return a service account."""
    return service.get_service_account(ctx, account)


@router.patch("/service-accounts/{account}")
def update_service_account(ctx: Context, account: Ref, body: PrincipalUpdate) -> Principal:
    """Change or disable a service account."""
    return service.update_service_account(ctx, account, body)


@router.post("/api-keys", status_code=201, response_model=ApiKeyCreated)
def create_api_key(ctx: Context, body: ApiKeyCreate) -> Response:
    """Make an API key; its secret is shown this once."""
    return _secret(service.create_api_key(ctx, body))


@router.get("/api-keys")
def list_api_keys(ctx: Context, page: Listing) -> Page[ApiKey]:
    """List one's own API keys and those one administers."""
    return service.list_api_keys(ctx, page)


@router.delete("/api-keys/{key_id}", status_code=204)
def revoke_api_key(ctx: Context, key_id: Ref) -> None:
    """End an API key and the tokens issued on it."""
    return service.revoke_api_key(ctx, key_id)


@router.get("/signing-keys")
def list_signing_keys(ctx: Context) -> Page[SigningKey]:
    """List the platform's public signing keys."""
    return service.list_signing_keys(ctx)


@router.post("/signing-keys/rotate", status_code=201)
def rotate_signing_keys(ctx: Context, body: KeyRotation) -> SigningKey:
    """Sign with a new key from now on."""
    return service.rotate_signing_keys(ctx, body)


@router.get("/audit")
def list_audit_records(ctx: Context, page: Listing) -> Page[AuditRecord]:
    """List what was done or denied in the project, newest first."""
    return service.list_audit_records(ctx, page)


def _secret(shown_once: AccessToken | ApiKeyCreated) -> Response:
    """Answer with a secret: never kept by a cache, nor for a repeated request."""
    return Response(shown_once.model_dump_json(), 201, {"Cache-Control": "no-store"}, media_type="application/json")
