"""The audit trail: who did or was denied what, in the transaction of what was done."""

from modelops.contracts.errors import MLOpsError
from modelops.contracts.ids import new_id
from modelops.kernel.context import Actor, Context
from modelops.kernel.database import Raw
from modelops.kernel.tables import AuditRow
from modelops.kernel.work import Workplace


def record(ctx: Context, operation: str, resource: str, outcome: str) -> None:
    """Leave a record of an operation in its own unit of work."""
    ctx.session.add(
        AuditRow(
            id=new_id("aud"),
            time=ctx.clock.now(),
            tenant_id=ctx.actor.tenant_id,
            project_id=ctx.actor.project_id,
            actor=ctx.actor.id,
            operation=operation,
            resource=resource[:500],
            outcome=outcome,
            request_id=ctx.request_id,
        )
    )


def record_denied(
    place: Workplace, actor: Actor, operation: str, resource: str, denied: MLOpsError, request_id: str | None
) -> None:
    """Leave a record of what was refused, in a unit of work of its own: that of the operation was rolled back."""
    with place.work(actor, request_id=request_id) as ctx:
        record(ctx, operation, resource, denied.code)


def put(raw: Raw, place: Workplace, actor: Actor, operation: str, resource: str, request_id: str | None) -> None:
    """Leave a record of an operation in a raw transaction."""
    raw.execute(
        "INSERT INTO audit_records (id, time, tenant_id, project_id, actor, operation, resource, outcome, request_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'done', ?)",
        (
            new_id("aud"),
            raw.moment(place.clock.now()),
            actor.tenant_id,
            actor.project_id,
            actor.id,
            operation,
            resource[:500],
            request_id,
        ),
    )
