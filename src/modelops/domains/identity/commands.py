"""Who may do what: tenants, projects, users, keys."""

from typing import Annotated, Any

import typer

from modelops.contracts.roles import Role
from modelops.contracts.terminal import AsJson, group, paged, say, show, show_page
from modelops.domains.identity.client import Identity
from modelops.domains.identity.schemas import KeyPurpose

app = typer.Typer(help="Tenants, projects, users, service accounts, keys and the audit trail.", no_args_is_help=True)

NameArg = Annotated[str, typer.Argument(help="A name.")]
ProjectArg = Annotated[str, typer.Argument(help="A project, by name or id.")]
PrincipalArg = Annotated[str, typer.Argument(help="A user or service account, by name or id.")]
RoleOpt = Annotated[Role, typer.Option(help="The role in the current project.")]
Disabled = Annotated[bool | None, typer.Option("--disable/--enable", help="Whether it may do anything.")]


@app.command()
def get_me(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show who the platform takes you for."""
    show(group(ctx, Identity).get_me(), as_json=as_json)


@app.command()
def issue_token(
    ctx: typer.Context,
    permission: Annotated[list[str] | None, typer.Option(help="Only these permissions; repeat it.")] = None,
    expires_in_s: Annotated[int | None, typer.Option(help="Seconds it is valid.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print an access token for the current project."""
    token = group(ctx, Identity).issue_token(expires_in_s=expires_in_s, permissions=permission or None)
    show(token, as_json=True) if as_json else say(token.access_token)


@app.command()
def create_tenant(ctx: typer.Context, name: NameArg, display_name: str = "", as_json: AsJson = False) -> None:
    """Make a tenant, with a first project `default`."""
    show(group(ctx, Identity).create_tenant(name, display_name=display_name), as_json=as_json)


@app.command()
@paged
def list_tenants(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the tenants that you may know of."""
    show_page(group(ctx, Identity).list_tenants(**page), ["name", "display_name", "id", "created_at"], as_json=as_json)


@app.command()
def get_tenant(ctx: typer.Context, tenant: NameArg, as_json: AsJson = False) -> None:
    """Show a tenant."""
    show(group(ctx, Identity).get_tenant(tenant), as_json=as_json)


@app.command()
def create_project(
    ctx: typer.Context, name: NameArg, description: str = "", tenant: str | None = None, as_json: AsJson = False
) -> None:
    """Make a project, which you administer."""
    show(group(ctx, Identity).create_project(name, description=description, tenant=tenant), as_json=as_json)


@app.command()
@paged
def list_projects(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List your projects."""
    show_page(group(ctx, Identity).list_projects(**page), ["name", "description", "id", "created_at"], as_json=as_json)


@app.command()
def get_project(ctx: typer.Context, project: ProjectArg, as_json: AsJson = False) -> None:
    """Show a project."""
    show(group(ctx, Identity).get_project(project), as_json=as_json)


@app.command()
def update_project(ctx: typer.Context, project: ProjectArg, description: str, as_json: AsJson = False) -> None:
    """Change a project's description."""
    show(group(ctx, Identity).update_project(project, description=description), as_json=as_json)


@app.command()
def list_members(ctx: typer.Context, project: ProjectArg, as_json: AsJson = False) -> None:
    """List who has which role in a project."""
    columns = ["name", "kind", "role", "principal_id"]
    show_page(group(ctx, Identity).list_members(project), columns, as_json=as_json)


@app.command()
def set_member(
    ctx: typer.Context, project: ProjectArg, principal: PrincipalArg, role: Role, as_json: AsJson = False
) -> None:
    """Give a user or service account a role in a project."""
    show(group(ctx, Identity).set_member(project, principal, role), as_json=as_json)


@app.command()
def remove_member(ctx: typer.Context, project: ProjectArg, principal: PrincipalArg) -> None:
    """Take a user or service account out of a project."""
    group(ctx, Identity).remove_member(project, principal)
    say(f"{principal} is no longer in {project}.")


@app.command()
def create_user(
    ctx: typer.Context, name: NameArg, email: str | None = None, role: RoleOpt = Role.VIEWER, as_json: AsJson = False
) -> None:
    """Make a user. An API key for it: `mops identity create-api-key KEY --principal NAME`."""
    show(group(ctx, Identity).create_user(name, email=email, role=role), as_json=as_json)


@app.command()
@paged
def list_users(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the users of the tenant."""
    show_page(group(ctx, Identity).list_users(**page), _PRINCIPAL_COLUMNS, as_json=as_json)


@app.command()
def get_user(ctx: typer.Context, user: PrincipalArg, as_json: AsJson = False) -> None:
    """Show a user."""
    show(group(ctx, Identity).get_user(user), as_json=as_json)


@app.command()
def update_user(
    ctx: typer.Context,
    user: PrincipalArg,
    disabled: Disabled = None,
    email: str | None = None,
    platform_admin: Annotated[
        bool | None, typer.Option("--platform-admin/--no-platform-admin", help="Whether it administers the platform.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change, disable or enable a user."""
    identity = group(ctx, Identity)
    show(identity.update_user(user, disabled=disabled, email=email, platform_admin=platform_admin), as_json=as_json)


@app.command()
def create_service_account(
    ctx: typer.Context, name: NameArg, role: RoleOpt = Role.VIEWER, as_json: AsJson = False
) -> None:
    """Make a service account: a program that acts on its own."""
    show(group(ctx, Identity).create_service_account(name, role=role), as_json=as_json)


@app.command()
@paged
def list_service_accounts(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the service accounts of the tenant."""
    show_page(group(ctx, Identity).list_service_accounts(**page), _PRINCIPAL_COLUMNS, as_json=as_json)


@app.command()
def get_service_account(ctx: typer.Context, account: PrincipalArg, as_json: AsJson = False) -> None:
    """Show a service account."""
    show(group(ctx, Identity).get_service_account(account), as_json=as_json)


@app.command()
def update_service_account(
    ctx: typer.Context, account: PrincipalArg, disabled: Disabled = None, as_json: AsJson = False
) -> None:
    """Disable or enable a service account."""
    show(group(ctx, Identity).update_service_account(account, disabled=disabled), as_json=as_json)


@app.command()
def create_api_key(
    ctx: typer.Context,
    name: NameArg,
    principal: Annotated[str | None, typer.Option(help="Whose it is; by default, yours.")] = None,
    expires_in_days: Annotated[int, typer.Option(min=1, max=3650)] = 365,
    as_json: AsJson = False,
) -> None:
    """Make an API key; its secret is shown this once."""
    key = group(ctx, Identity).create_api_key(name, principal=principal, expires_in_days=expires_in_days)
    show(key, as_json=as_json)


@app.command()
@paged
def list_api_keys(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List your API keys and those you administer."""
    columns = ["name", "principal", "hint", "expires_at", "revoked_at", "id"]
    show_page(group(ctx, Identity).list_api_keys(**page), columns, as_json=as_json)


@app.command()
def revoke_api_key(ctx: typer.Context, key_id: Annotated[str, typer.Argument(help="The key's id, `key_…`.")]) -> None:
    """End an API key and the tokens issued on it."""
    group(ctx, Identity).revoke_api_key(key_id)
    say(f"{key_id} is revoked.")


@app.command()
def list_signing_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the platform's public signing keys."""
    columns = ["id", "purpose", "created_at", "retired_at"]
    show_page(group(ctx, Identity).list_signing_keys(), columns, as_json=as_json)


@app.command()
def rotate_signing_keys(ctx: typer.Context, purpose: KeyPurpose = KeyPurpose.TOKENS, as_json: AsJson = False) -> None:
    """Sign with a new key from now on; what the old ones signed stays valid."""
    show(group(ctx, Identity).rotate_signing_keys(purpose), as_json=as_json)


@app.command()
@paged
def list_audit_records(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List what was done or denied in the project, newest first."""
    columns = ["time", "actor", "operation", "resource", "outcome"]
    show_page(group(ctx, Identity).list_audit_records(**page), columns, as_json=as_json)


_PRINCIPAL_COLUMNS = ["name", "email", "disabled", "platform_admin", "id", "created_at"]
