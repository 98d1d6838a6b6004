"""The revision document: made once, when a revision is about to be brought up, and kept as it was made."""

from pathlib import Path
from typing import Any

from modelops.contracts.errors import MLOpsError
from modelops.contracts.settings import Settings
from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.identity.tokens import AUDIENCE
from modelops.domains.models import service as models
from modelops.domains.serving.rows import policy_of, variants_of
from modelops.domains.serving.schemas import (
    RevisionDocument,
    RevisionVariant,
    RoutingDocument,
    ServingLimits,
    VariantDocument,
)
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.domains.serving.variants import digest_of
from modelops.domains.serving.workloads import fix_spec
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox

PERMISSIONS = ("artifacts.read", "monitoring.write")
"""What a replica may do on the platform: fetch its package, and hand over what it observed."""

_TOKEN_TTL_S = 10 * 365 * 86_400


def prepare_revision(ctx: Context, row: DeploymentRow, revision: RevisionRow, url: str, python: str) -> str | None:
    """Fix the spec of a revision's workload and give it a token; of one that lives in another's workload, its document.

    Returns why that cannot be, or None.

    Args:
        url: Where the runtime reaches the platform.
        python: The interpreter that it runs in.
    """
    try:
        document = _document(ctx, row, revision, url)
    except MLOpsError as wrong:
        return str(wrong)
    settings = ctx.settings
    spec: dict[str, Any] = {"document": document.model_dump_json(), "digest": digest_of(document)}
    if revision.home is None:
        spec |= fix_spec(document, python, _home(settings, row), settings.drain_s)
        spec["target"] = row.target
        token = identity.grant_token(ctx, row.id, PERMISSIONS, ttl_s=_TOKEN_TTL_S)
        revision.sealed_token = ctx.port(SecretBox).seal(token.encode(), _label(revision))
        revision.placed = True
    revision.spec = spec
    ctx.emit("modelops.serving.revision_starting", row.id, name=row.name, revision=revision.number)
    return None


def _home(settings: Settings, row: DeploymentRow) -> Path | None:
    """Return the home folder where replicas share it with the platform: on its machine."""
    return Path(settings.home) if row.target == "local" else None


def token_of(ctx: Context, revision: RevisionRow) -> str:
    """Return the token that a revision's replicas call the platform with."""
    return ctx.port(SecretBox).open(revision.sealed_token or "", _label(revision)).decode()


def _document(ctx: Context, row: DeploymentRow, revision: RevisionRow, url: str) -> RevisionDocument:
    policy = policy_of(revision)
    return RevisionDocument(
        deployment_id=row.id,
        deployment=row.name,
        tenant_id=identity.tenant_of(ctx, row.project_id),
        project_id=row.project_id,
        revision=revision.number,
        variants=[_variant(ctx, one) for one in variants_of(revision)],
        routing=RoutingDocument(
            sticky_header=policy.sticky_header, salt=policy.salt, override_header=policy.override_header
        ),
        trusted_keys=models.trusted_keys(ctx),
        token_keys=identity.list_public_keys(ctx, KeyPurpose.TOKENS),
        audience=AUDIENCE,
        limits=ServingLimits.model_validate(revision.limits),
        platform_url=url,
    )


def _variant(ctx: Context, variant: RevisionVariant) -> VariantDocument:
    version = models.get_version_by_id(ctx, variant.model_version_id)
    return VariantDocument(
        name=variant.name,
        role=variant.role,
        share=variant.share,
        model=version.name,
        version=version.version,
        model_version_id=version.id,
        flavour=version.flavour,
        digest=version.digest,
        files=version.files,
        signature=version.signature,
        platform_signature=version.platform_signature,
    )


def _label(revision: RevisionRow) -> str:
    return f"revision-token:{revision.id}"
