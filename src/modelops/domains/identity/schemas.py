"""Payloads of identity."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.roles import Role
from modelops.contracts.schemas import Name, Schema, Slug, Text, UtcTime

GrantedRole = Annotated[Role, Field(description="`platform_admin` is not granted in a project.")]


class TenantCreate(Schema):
    """A new tenant."""

    name: Slug
    display_name: Text = ""


class Tenant(Schema):
    """An organisation: what it owns is invisible to every other."""

    id: str
    name: str
    display_name: str
    created_at: UtcTime
    created_by: str


class ProjectCreate(Schema):
    """A new project of the caller's tenant, or for a platform administrator of the `tenant` named."""

    name: Slug
    description: Text = ""
    tenant: Annotated[str | None, Field(max_length=100, description="A tenant, by name or id.")] = None


class ProjectUpdate(Schema):
    """What may change on a project; a field left out stays."""

    description: Text | None = None


class Project(Schema):
    """Where resources live, and where roles are held."""

    id: str
    tenant_id: str
    name: str
    description: str
    created_at: UtcTime
    created_by: str
    revision: int


class PrincipalKind(StrEnum):
    """A person, or a program that acts on its own."""

    USER = "user"
    SERVICE_ACCOUNT = "service_account"


class UserCreate(Schema):
    """A new user of the tenant, with a first role in the current project."""

    name: Name
    email: Annotated[str | None, Field(max_length=250, pattern=r"^[^@\s]+@[^@\s]+$")] = None
    role: GrantedRole = Role.VIEWER


class ServiceAccountCreate(Schema):
    """A new service account of the tenant, with a first role in the current project."""

    name: Name
    role: GrantedRole = Role.VIEWER


class PrincipalUpdate(Schema):
    """What may change on a principal. One that is disabled can do nothing from then on; only a platform administrator
    makes another."""

    disabled: bool | None = None
    platform_admin: bool | None = None
    email: Annotated[str | None, Field(max_length=250, pattern=r"^[^@\s]+@[^@\s]+$")] = None


class Principal(Schema):
    """A user or service account."""

    id: str
    kind: PrincipalKind
    tenant_id: str
    name: str
    email: str | None
    platform_admin: bool
    disabled: bool
    created_at: UtcTime
    created_by: str
    revision: int


class MemberSet(Schema):
    """The role a principal is to have in a project."""

    role: GrantedRole


class Member(Schema):
    """A principal's role in a project."""

    principal_id: str
    name: str
    kind: PrincipalKind
    role: Role


class ApiKeyCreate(Schema):
    """A new API key: one's own, or of a `principal` that the caller administers."""

    name: Name
    principal: Annotated[str | None, Field(max_length=250, description="By name or id; by default, the caller.")] = None
    expires_in_days: Annotated[int | None, Field(ge=1, le=3650)] = 365


class ApiKey(Schema):
    """An API key, without its secret."""

    id: str
    name: str
    principal_id: str
    principal: str
    hint: Annotated[str, Field(description="The secret's first characters, to tell keys apart.")]
    created_at: UtcTime
    expires_at: UtcTime | None
    revoked_at: UtcTime | None


class ApiKeyCreated(ApiKey):
    """A new API key with its secret, which is shown this once and not kept."""

    secret: str


class TokenCreate(Schema):
    """Asks for an access token, narrowed to one project."""

    project: Annotated[str | None, Field(max_length=250, description="By name or id; by default, the current one.")] = (
        None
    )
    expires_in_s: Annotated[int | None, Field(ge=60, le=86_400)] = None
    permissions: Annotated[
        list[str] | None, Field(max_length=200, description="Only these of one's permissions; by default, all.")
    ] = None


class AccessToken(Schema):
    """A JWT signed with Ed25519; it works on the API and, for its project, directly on serving runtimes."""

    access_token: str
    token_type: str
    expires_in_s: int
    project_id: str


class Me(Schema):
    """Who the platform takes the caller for, and what may be done in the current project."""

    id: str
    name: str
    kind: str
    tenant_id: str | None
    tenant: str | None
    project_id: str | None
    project: str | None
    role: Role | None
    permissions: list[str]


class KeyPurpose(StrEnum):
    """What a signing key is for."""

    TOKENS = "tokens"
    MODELS = "models"
    BUNDLES = "bundles"


class SigningKey(Schema):
    """A public key of the platform; a retired one still verifies and no longer signs.

    Keys are Ed25519; those for `bundles`, which OpenSSF's verifier reads, are ECDSA on P-256.
    """

    id: str
    purpose: KeyPurpose
    public_key: Annotated[
        str, Field(description="Base64url: the raw 32 bytes; of `bundles`, the compressed point, 33 bytes.")
    ]
    created_at: UtcTime
    retired_at: UtcTime | None


class KeyRotation(Schema):
    """Which keys to replace."""

    purpose: KeyPurpose = KeyPurpose.TOKENS


class JsonWebKeySet(Schema):
    """RFC 7517: the keys that verify access tokens."""

    keys: list[dict[str, str]]


class AuditRecord(Schema):
    """An operation that changed something (`outcome` is `done`) or was denied."""

    id: str
    time: UtcTime
    actor: str
    operation: str
    resource: str
    outcome: str
    request_id: str | None
