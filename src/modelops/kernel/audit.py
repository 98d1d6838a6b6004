"""The audit trail: who did or was denied what, in the transaction of what was done."""

from modelops.contracts.errors import MLOpsError
from modelops.contracts.ids import new_id
from modelops.kernel.context import Actor, Context
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
