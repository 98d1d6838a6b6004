"""Which blobs are needed: each domain tells, of some digests, those that it refers to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelops.kernel.context import Context

Holds = Callable[[Context, Sequence[str]], Iterable[tuple[str, str]]]
"""Of some digests (up to a thousand), yields those that a domain refers to, in any project: pairs of project and digest.

It is asked with the rows as they are committed, and must tell what a later reader of the domain's rows would want to read.
"""


@dataclass(frozen=True)
class Holders:
    """Every domain's answer, by the domain's name."""

    by_domain: Mapping[str, Holds]

    def held(self, ctx: Context, digests: Sequence[str]) -> set[str]:
        """Return those of the digests that any domain refers to, in any project."""
        found: set[str] = set()
        for holds in self.by_domain.values():
            asked = [digest for digest in digests if digest not in found]
            if asked:
                found.update(digest for _, digest in holds(ctx, asked))
        return found

    def of(self, ctx: Context, project_id: str, digests: Sequence[str]) -> dict[str, set[str]]:
        """Return, for each digest, the domains that refer to it in a project."""
        found: dict[str, set[str]] = {digest: set() for digest in digests}
        for name, holds in self.by_domain.items():
            for project, digest in holds(ctx, digests):
                if project == project_id:
                    found[digest].add(name)
        return found
