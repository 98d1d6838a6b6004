"""Variants in revision documents: what a document has its replicas serve, told apart by digests."""

import hashlib
import json
from functools import lru_cache

from modelops.domains.models.schemas import FeatureType, ModelSignature
from modelops.domains.serving.schemas import ReplicaRevision, RevisionDocument, VariantRole

CANDIDATE = "candidate"
"""What a canary's new champion is called until it is one."""


def digest_of(found: RevisionDocument | ReplicaRevision) -> str:
    """Return a digest of a revision's number and of its variants with their shares: equal for a document and for what a
    replica says that serves it."""
    number = found.revision if isinstance(found, RevisionDocument) else found.serving
    variants = [[one.name, one.role, round(one.share, 6), one.model, one.version] for one in found.variants]
    return hashlib.sha256(json.dumps([number, variants]).encode()).hexdigest()[:32]


def blend(active: RevisionDocument, wanted: RevisionDocument, share: float) -> RevisionDocument:
    """Return a document in which the wanted revision's champion answers `share` percent of the callers, as a challenger, and
    the active revision's variants the others, in their proportions."""
    left = 1 - share / 100
    answering = [one for one in active.variants if one.role is not VariantRole.SHADOW]
    incumbents = [one.model_copy(update={"share": one.share * left}) for one in answering]
    candidate = wanted.champion.model_copy(update={"name": CANDIDATE, "role": VariantRole.CHALLENGER, "share": share})
    shadows = [one for one in active.variants if one.role is VariantRole.SHADOW]
    return wanted.model_copy(update={"variants": [*incumbents, candidate, *shadows]})


@lru_cache(maxsize=64)
def blended(active: str, wanted: str, share: float) -> tuple[str, str]:
    """Return the blend of two documents, both as JSON, and its digest."""
    document = blend(RevisionDocument.model_validate_json(active), RevisionDocument.model_validate_json(wanted), share)
    return document.model_dump_json(), digest_of(document)


def mismatch(champion: ModelSignature, other: ModelSignature) -> str | None:
    """Return why requests that fit the champion do not fit another model, naming the feature; None where they do.

    Nothing is known of a model without inputs, and nothing is refused.
    """
    if not champion.inputs or not other.inputs:
        return None
    mine, its = [one.name for one in champion.inputs], [one.name for one in other.inputs]
    if missing := next((name for name in mine if name not in its), None):
        return f"it does not take the feature '{missing}'"
    if extra := next((name for name in its if name not in mine), None):
        return f"it also wants the feature '{extra}'"
    if mine != its:
        place = next(place for place, name in enumerate(mine) if name != its[place])
        return f"its feature {place + 1} is '{its[place]}', not '{mine[place]}'"
    for before, after in zip(champion.inputs, other.inputs, strict=True):
        wider = (before.type, after.type) == (FeatureType.INTEGER, FeatureType.NUMBER)
        if before.type is not after.type and not wider:
            return f"its feature '{after.name}' is of type {after.type}, not {before.type}"
        if after.required and not before.required:
            return f"its feature '{after.name}' may not be missing"
    return None
