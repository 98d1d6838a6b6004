"""Approvals: asked for by one, given by another, bound to a digest, and signed so that no edit of the database makes one."""

from modelops.contracts.errors import SignatureInvalid
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.contracts.signing import Signature, canonical, verify
from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.models.finding import version_in_path
from modelops.domains.models.rules import NEEDS_APPROVAL, ApprovalRefused, ApprovalRequired, check_decider
from modelops.domains.models.schemas import Approval, ApprovalCreate, ApprovalDecision, ApprovalState, Stage
from modelops.domains.models.tables import ApprovalRow, ModelVersionRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

APPROVAL_TYPE = "application/vnd.modelops.approval.v1+json"


def request_approval(ctx: Context, model: str, version: str, body: ApprovalCreate) -> Approval:
    """Ask for a version to be approved for a stage."""
    ctx.require("models.write")
    subject = version_in_path(ctx, model, version)
    if body.stage not in NEEDS_APPROVAL:
        raise ApprovalRefused(f"{body.stage} needs no approval.", hint="Move the version there: `set_stage`.")
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
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.models.approval_requested", row.id, model=row.model, version=row.version, stage=row.stage)
    return _approval(row)


def decide_approval(ctx: Context, approval: str, body: ApprovalDecision) -> Approval:
    """Answer a request, once; who asked cannot."""
    ctx.require("models.approve")
    row = ctx.one(ApprovalRow, f"approval '{approval}'", ApprovalRow.id == approval)
    ctx.session.refresh(row, with_for_update=True)
    if row.state != ApprovalState.PENDING:
        raise ApprovalRefused(f"The request was {row.state} before.", hint="Ask for another approval.")
    check_decider(row.requested_by, ctx.actor.id)
    row.state = ApprovalState.APPROVED if body.approve else ApprovalState.REJECTED
    row.decided_by, row.decided_at, row.decision_comment = ctx.actor.id, ctx.clock.now(), body.comment
    signature = identity.sign_document(ctx, KeyPurpose.MODELS, APPROVAL_TYPE, _payload(row))
    row.platform_signature = signature.model_dump()
    ctx.emit("modelops.models.approval_decided", row.id, model=row.model, version=row.version, state=row.state)
    return _approval(row)


def list_approvals(ctx: Context, page: PageQuery) -> Page[Approval]:
    """List the project's requests, newest first."""
    ctx.require("models.read")
    fields = {
        "model": ApprovalRow.model,
        "version": ApprovalRow.version,
        "state": ApprovalRow.state,
        "stage": ApprovalRow.stage,
        "requested_at": ApprovalRow.requested_at,
        "requested_by": ApprovalRow.requested_by,
    }
    found = list_rows(ctx, ctx.query(ApprovalRow), ApprovalRow.id, fields, page, order="desc")
    return Page(items=[_approval(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def approval_for(ctx: Context, version: ModelVersionRow, stage: Stage) -> str | None:
    """Return the approval that lets a version enter a stage; None where the stage needs none.

    Raises:
        ApprovalRequired: there is none of this version, digest and stage.
        SignatureInvalid: there is a row that says so, and the platform did not sign it.
    """
    if stage not in NEEDS_APPROVAL:
        return None
    query = ctx.query(ApprovalRow).where(
        ApprovalRow.model_version_id == version.id,
        ApprovalRow.digest == version.digest,
        ApprovalRow.stage == stage,
        ApprovalRow.state == ApprovalState.APPROVED,
    )
    row = ctx.session.scalars(query.order_by(ApprovalRow.id.desc()).limit(1)).first()
    if row is None:
        raise ApprovalRequired(
            f"{version.name}:{version.version} is not approved for {stage}.",
            hint=f"Ask for it: mops models request-approval {version.name} {version.version}; another member decides.",
        )
    if row.platform_signature is None or row.decided_by == row.requested_by:
        raise SignatureInvalid(f"The approval '{row.id}' was not given through the platform.")
    trusted = identity.list_public_keys(ctx, KeyPurpose.MODELS)
    verify(trusted, APPROVAL_TYPE, _payload(row), Signature.model_validate(row.platform_signature))
    return row.id


def _payload(row: ApprovalRow) -> bytes:
    names = ("id", "project_id", "model_version_id", "digest", "stage", "state", "requested_by", "decided_by")
    moment = row.decided_at.isoformat() if row.decided_at else None
    return canonical({**{name: getattr(row, name) for name in names}, "decided_at": moment})


def _approval(row: ApprovalRow) -> Approval:
    return Approval.model_validate(row, from_attributes=True)
