"""Decisions about rights, without a database."""

from collections.abc import Mapping, Set

from modelops.contracts.errors import InvalidInput, PermissionDenied, Unauthenticated
from modelops.contracts.roles import Role


def check_grant(own: Role | None, granted: Role) -> None:
    """Refuse to hand out a role that the giver does not have, or that projects do not hold.

    Raises:
        InvalidInput: `platform_admin` is not a role in a project.
        PermissionDenied: the role is above the giver's own.
    """
    if granted is Role.PLATFORM_ADMIN:
        raise InvalidInput(
            "`platform_admin` is no role in a project.", hint="Grant `project_admin`, the highest role a project holds."
        )
    if own is None or not own.includes(granted):
        raise PermissionDenied(f"You cannot grant '{granted}': it is above your own role.")


def administers(admin_of: Set[str], member_of: Set[str]) -> bool:
    """Tell whether somebody who administers the projects `admin_of` may manage a principal that is in `member_of`.

    Only when the principal reaches nowhere beyond: else managing it (issuing a key of it) would raise one's rights.
    """
    return bool(member_of) and member_of <= admin_of


def parse_x_actor(text: str) -> tuple[str, Mapping[str, str]]:
    """Read the development header `user|tenant=…|role=…`.

    Raises:
        Unauthenticated: it is not of that form.
    """
    user, *rest = text.split("|")
    fields = dict(part.partition("=")[::2] for part in rest)
    if not user.strip() or not fields.keys() <= {"tenant", "role", "project"} or "" in fields.values():
        raise Unauthenticated(
            "The `X-Actor` header cannot be read.", hint="Write it as `user|tenant=default|role=viewer`."
        )
    if fields.get("role", "viewer") not in set(Role):
        raise Unauthenticated(
            f"'{fields['role']}' in the `X-Actor` header is no role.", hint=f"The roles are {', '.join(Role)}."
        )
    return user.strip(), fields
