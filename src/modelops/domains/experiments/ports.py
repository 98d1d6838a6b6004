"""What experiments asks of rooms it may not import: what the project's artifacts are, and to let go of them."""

from collections.abc import Sequence
from typing import Protocol

from modelops.kernel.context import Context


class ArtifactCatalog(Protocol):
    """Knows the project's artifacts. The composition root gives it the data domain's."""

    def __call__(self, ctx: Context, digest: str) -> tuple[int, str]:
        """Return an artifact's size in bytes and its media type.

        Raises:
            NotFound: the project does not hold it.
        """
        ...


class ArtifactRelease(Protocol):
    """Lets go of artifacts. The composition root gives it the data domain's."""

    def __call__(self, ctx: Context, project_id: str, digests: Sequence[str]) -> None:
        """Let go of those of a project's artifacts that nothing refers to any more; others stay."""
        ...
