"""What the registry asks of rooms above it: what came of a version there."""

from typing import Protocol

from modelops.domains.models.views import LineageNode
from modelops.kernel.context import Context


class Downstream(Protocol):
    """Knows what a version went into. The domain above gives it with its manifest."""

    def __call__(self, ctx: Context, version_id: str) -> list[LineageNode]:
        """Return what the version went into, of the project, as far as the caller may see it."""
        ...
