"""The five roles, a ladder: each includes every permission of the ones below it."""

from enum import StrEnum


class Role(StrEnum):
    """What a principal may do in a project. `platform_admin` alone reaches beyond its own tenant."""

    VIEWER = "viewer"
    DATA_SCIENTIST = "data_scientist"
    ML_ENGINEER = "ml_engineer"
    PROJECT_ADMIN = "project_admin"
    PLATFORM_ADMIN = "platform_admin"

    @property
    def rank(self) -> int:
        """Return the role's height on the ladder, 0 for `viewer`."""
        return list(Role).index(self)

    def includes(self, other: "Role") -> bool:
        """Tell whether this role has every permission of `other`."""
        return self.rank >= other.rank
