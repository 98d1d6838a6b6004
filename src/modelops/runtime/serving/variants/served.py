"""What a replica serves at one time: the variants of a revision, and which of them a request is for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.serving.schemas import RevisionDocument, VariantRole
from modelops.runtime.serving.openinference.metadata import model_paths
from modelops.runtime.serving.variants.routing import drawn, variant_of
from modelops.runtime.serving.variants.shadows import Shadow
from modelops.runtime.serving.variants.variant import Variant, Way


class Kind(Enum):
    """A form, whichever variant's."""

    PLAIN = "plain"
    OPEN = "open"


@dataclass(frozen=True)
class Door:
    """Where a request comes in: its form, and the variant that its path names; None where it names none of several."""

    kind: Kind
    named: Variant | None

    def way(self, variant: Variant) -> Way:
        """Return a variant's way in this door's form."""
        return variant.plain if self.kind is Kind.PLAIN else variant.open


class Draw:
    """The ways of several variants, one of which is drawn for each request."""

    def __init__(self, ways: Sequence[Way], shares: Sequence[float]) -> None:
        self._ways, self._shares = ways, shares

    def draw(self) -> Way:
        """Return a way by chance."""
        return self._ways[drawn(self._shares)]


class Served:
    """The variants of one revision. Never changes: a swap brings another one.

    Attributes:
        variants: The champion first.
        answering: Those that callers get answers of: all but the shadows.
        doors: By the path as it stands in a request's first line.
        sticky, override: The headers of those meanings in lower case; None where there is none, or no key to go by.
    """

    def __init__(self, document: RevisionDocument, variants: Sequence[Variant]) -> None:
        self.document, self.variants = document, tuple(variants)
        parts = list(zip(document.variants, self.variants, strict=True))
        self.champion = self.variants[0]
        self.answering = {part.name: variant for part, variant in parts if part.role is not VariantRole.SHADOW}
        self.shadows = [Shadow(variant, part.share) for part, variant in parts if part.role is VariantRole.SHADOW]
        self._shares = {part.name: part.share for part, _ in parts if part.role is VariantRole.CHALLENGER}
        champion = max(0.0, 100.0 - sum(self._shares.values()))
        self._shares = {document.champion.name: champion, **self._shares}
        self._only = self.champion if not any(list(self._shares.values())[1:]) else None
        routing = document.routing
        self.override = routing.override_header.lower() if routing.override_header else None
        self.sticky = routing.sticky_header.lower() if self._only is None and routing.sticky_header else None
        self.doors = {"/predict": Door(Kind.PLAIN, None)}
        for variant in self.answering.values():
            path, with_version = model_paths(variant.part.variant)
            named = None if variant is self.champion else variant
            self.doors.setdefault(f"{path}/infer", Door(Kind.OPEN, named))
            self.doors.setdefault(f"{with_version}/infer", Door(Kind.OPEN, variant))

    def way(self, door: Door, headers: Mapping[str, str]) -> Way | Draw:
        """Return where a request goes that comes in by a door, or what draws it.

        Raises:
            InvalidInput: the override header names no variant that answers.
        """
        chosen = self.overridden(headers) or door.named or self._only or self._by_key(headers)
        if chosen is not None:
            return door.way(chosen)
        ways = [door.way(variant) for variant in self.answering.values()]
        return Draw(ways, list(self._shares.values()))

    def overridden(self, headers: Mapping[str, str]) -> Variant | None:
        """Return the variant that a request's head asks for; None where it leaves the choice to the deployment.

        Raises:
            InvalidInput: there is no such variant.
        """
        name = headers.get(self.override) if self.override is not None else None
        if not name:
            return None
        variant = self.answering.get(name)
        if variant is None:
            raise InvalidInput(
                f"The header '{self.override}' names '{name[:100]}', and no variant that answers has that name.",
                hint=f"The variants are {', '.join(self.answering)}.",
            )
        return variant

    def model(self, model: str, version: str | None) -> Variant:
        """Return the variant that serves a model, the champion before others.

        Raises:
            NotFound: none does.
        """
        for variant in self.answering.values():
            part = variant.part.variant
            if part.model == model and version in (None, str(part.version)):
                return variant
        told = [f"version {one.part.variant.version} of '{one.part.variant.model}'" for one in self.answering.values()]
        raise NotFound(
            f"This replica serves {', '.join(told)}, and no other.",
            hint=f"Ask {model_paths(self.document.champion)[1]}.",
        )

    def versions(self, model: str) -> list[int]:
        """Return the versions of a model that can be asked."""
        parts = [variant.part.variant for variant in self.answering.values()]
        return list(dict.fromkeys(part.version for part in parts if part.model == model))

    def _by_key(self, headers: Mapping[str, str]) -> Variant | None:
        value = headers.get(self.sticky) if self.sticky is not None else None
        return self.answering[variant_of(self._shares, self.document.routing.salt, value)] if value else None
