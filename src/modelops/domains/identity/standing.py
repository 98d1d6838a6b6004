"""What somebody may do today, who set something up that acts in his name later."""

from modelops.contracts.errors import NotFound, PermissionDenied
from modelops.domains.identity.authentication import principal_actor
from modelops.domains.identity.tables import PrincipalRow
from modelops.kernel.context import Context


def permissions_today(ctx: Context, principal_id: str, project_id: str) -> frozenset[str] | None:
    """Return what a principal may do in a project today; None for an id that is no principal's.

    Raises:
        PermissionDenied: the principal is disabled, or has left the project.
    """
    principal = ctx.session.get(PrincipalRow, principal_id)
    if principal is None:
        return None
    if principal.disabled:
        raise PermissionDenied(f"'{principal.name}', in whose name it begins, is disabled.")
    try:
        return principal_actor(ctx, principal, project_id).permissions
    except NotFound:
        raise PermissionDenied(f"'{principal.name}', in whose name it begins, has left the project.") from None
