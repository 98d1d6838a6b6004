"""Approvals: asked for by one, given by another, bound to a digest, and signed so that no edit of the database makes one.

The platform signs a request when it is made and again when it is decided, over everything that it says. Whoever decides,
and whoever promotes, is refused where the row no longer says what was signed.
"""

import shlex
from typing import Any

from modelops.contracts.errors import SignatureInvalid
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.contracts.signing import Signature, canonical, verify
from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.models.fields import APPROVAL_FIELDS
from modelops.domains.models.finding import to_version, version_in_path
from modelops.domains.models.packages import statement_of, verify_statement
from modelops.domains.models.rules import (
    NEEDS_APPROVAL,
    ApprovalRefused,
    ApprovalRequired,
    check_decider,
    check_request,
)
from modelops.domains.models.schemas import Approval, ApprovalCreate, ApprovalDecision, ApprovalState, Stage
from modelops.domains.models.tables import ApprovalRow, ModelVersionRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

APPROVAL_TYPE = "application/vnd.modelops.approval.v1+json"
"""The media type that the platform's signature over an approval covers."""

_SIGNED = (
    "id",
    "project_id",
    "model_version_id",
    "model",
    "version",
    "digest",
    "stage",
    "state",
    "requested_by",
    "request_comment",
    "decided_by",
    "decision_comment",
)


def request_approval(ctx: Context, model: str, version: str, body: ApprovalCreate) -> Approval:
    """Ask for a version to be approved for a stage."""
    ctx.require("models.write")
    subject = version_in_path(ctx, model, version)
    check_request(subject.name, subject.version, Stage(subject.stage), body.stage)
    row = ApprovalRow(
        id=new_id("apr"),
        project_id=ctx.project_id,
        model_version_id=subject.id,
        model=subject.name,
        version=subject.version,
        digest=subject.digest,
        stage=body.stage,
        state=ApprovalState.PENDING,
        requested_by=ctx.actor.id,
        requested_at=ctx.clock.now(),
        request_comment=body.comment,
        decision_comment="",
    )
    _sign(ctx, row)
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.models.approval_requested", row.id, **_facts(row))
    return _approval(row)


def decide_approval(ctx: Context, approval: str, body: ApprovalDecision) -> Approval:
    """Answer a request, once; who asked cannot."""
    ctx.require("models.approve")
    row = ctx.one(ApprovalRow, f"approval '{approval[:250]}'", ApprovalRow.id == approval)
    ctx.session.refresh(row, with_for_update=True)
    if row.state != ApprovalState.PENDING:
        raise ApprovalRefused(f"The request was {row.state} before.", hint="Ask for another approval.")
    check_decider(row.requested_by, ctx.actor.id)
    _check_signed(ctx, row)
    row.state = ApprovalState.APPROVED if body.approve else ApprovalState.REJECTED
    row.decided_by, row.decided_at, row.decision_comment = ctx.actor.id, ctx.clock.now(), body.comment
    _sign(ctx, row)
    ctx.emit("modelops.models.approval_decided", row.id, **_facts(row))
    return _approval(row)


def list_approvals(ctx: Context, page: PageQuery) -> Page[Approval]:
    """List the project's requests, newest first."""
    ctx.require("models.read")
    found = list_rows(ctx, ctx.query(ApprovalRow), ApprovalRow.id, APPROVAL_FIELDS, page, order="desc")
    return Page(items=[_approval(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def approvals_of(ctx: Context, version_id: str) -> list[Approval]:
    """Return the requests for a version, newest first."""
    query = ctx.query(ApprovalRow).where(ApprovalRow.model_version_id == version_id)
    return [_approval(row) for row in ctx.session.scalars(query.order_by(ApprovalRow.id.desc()))]


def approval_for(ctx: Context, version: ModelVersionRow, stage: Stage) -> str | None:
    """Return the approval that lets a version enter a stage; None where the stage needs none.

    Raises:
        ApprovalRequired: the newest decision on this version, digest and stage is none, or is a refusal.
        SignatureInvalid: the approval, or the version itself, no longer says what the platform signed.
    """
    if stage not in NEEDS_APPROVAL:
        return None
    query = ctx.query(ApprovalRow).where(
        ApprovalRow.model_version_id == version.id,
        ApprovalRow.digest == version.digest,
        ApprovalRow.stage == stage,
        ApprovalRow.state != ApprovalState.PENDING,
    )
    query = query.order_by(ApprovalRow.decided_at.desc(), ApprovalRow.id.desc()).limit(1)
    row = ctx.session.scalars(query).first()
    if row is None or row.state != ApprovalState.APPROVED:
        why = "is not approved" if row is None else f"was refused by '{row.id}'"
        command = f"mops models request-approval {shlex.quote(version.name)} {version.version}"
        raise ApprovalRequired(
            f"{version.name}:{version.version} {why} for {stage}.",
            hint=f"Ask for it: {command}; another member decides.",
        )
    _check_signed(ctx, row)
    if row.decided_by is None or row.decided_by == row.requested_by:
        raise SignatureInvalid(f"The approval '{row.id}' was not given by another than who asked for it.")
    signed = to_version(ctx, version)
    verify_statement(statement_of(signed), signed.platform_signature, _trusted(ctx))
    return row.id


def _sign(ctx: Context, row: ApprovalRow) -> None:
    signature = identity.sign_document(ctx, KeyPurpose.MODELS, APPROVAL_TYPE, _payload(row))
    row.platform_signature = signature.model_dump()


def _check_signed(ctx: Context, row: ApprovalRow) -> None:
    if row.platform_signature is None:
        raise SignatureInvalid(f"The approval '{row.id}' was not made through the platform.", hint="Ask for another.")
    try:
        signature = Signature.model_validate(row.platform_signature)
        verify(_trusted(ctx), APPROVAL_TYPE, _payload(row), signature)
    except (SignatureInvalid, ValueError) as wrong:
        raise SignatureInvalid(
            f"The approval '{row.id}' no longer says what the platform signed.", hint="Ask for another approval."
        ) from wrong


def _payload(row: ApprovalRow) -> bytes:
    said: dict[str, Any] = {name: getattr(row, name) for name in _SIGNED}
    for name, moment in (("requested_at", row.requested_at), ("decided_at", row.decided_at)):
        said[name] = moment.isoformat() if moment else None
    return canonical(said)


def _trusted(ctx: Context) -> dict[str, str]:
    return identity.list_public_keys(ctx, KeyPurpose.MODELS)


def _facts(row: ApprovalRow) -> dict[str, Any]:
    named = ("model", "version", "stage", "state", "digest", "requested_by", "decided_by")
    comment = row.request_comment if row.decided_by is None else row.decision_comment
    return {**{name: getattr(row, name) for name in named}, "comment": comment}


def _approval(row: ApprovalRow) -> Approval:
    return Approval.model_validate(row, from_attributes=True)
