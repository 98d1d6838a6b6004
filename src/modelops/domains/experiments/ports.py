"""What experiments asks of rooms it may not import: whether the project holds an artifact."""

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
