"""Quotas: what a tenant, over all its projects and queues, or one of its projects holds at most at a time.

Admission counts them, with all else, while the ledger is held. One that is lowered below what is held admits nothing more, and
ends nothing.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, or_, select, true

from modelops.contracts.errors import NotFound, PermissionDenied
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.compute.finding import OPERATE, visible
from modelops.domains.compute.ledger import note_change
from modelops.domains.compute.rules import amount, check_limits
from modelops.domains.compute.schemas import Quota, QuotaLimit, QuotaLimits, QuotaResource, QuotaScope, QuotaUsage
from modelops.domains.compute.tables import FlavorRow, QuotaRow
from modelops.domains.compute.usage import held_of_holders
from modelops.domains.identity import service as identity
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_FIELDS: dict[str, Any] = {
    "scope": QuotaRow.scope,
    "tenant_id": QuotaRow.tenant_id,
    "project_id": QuotaRow.project_id,
    "created_at": QuotaRow.created_at,
}
_OF_ALL_JOBS = frozenset({QuotaResource.JOBS, QuotaResource.CPUS, QuotaResource.MEMORY_MB})
"""What jobs use that ask for nothing that queues alone give."""


def set_quota(ctx: Context, scope: QuotaScope, holder: str, body: QuotaLimits) -> Quota:
    """Limit what a tenant (for operators of the platform) or a project (for who leads its tenant) holds at a time."""
    tenant_id, project_id = _limited_by_caller(ctx, scope, holder)
    note_change(ctx)
    check_limits(body.limits, frozenset(ctx.session.scalars(select(FlavorRow.name).where(visible(ctx, FlavorRow)))))
    row = _row_of(ctx, project_id or tenant_id)
    if row is None:
        row = QuotaRow(id=new_id("quo"), scope=scope, holder_id=project_id or tenant_id, tenant_id=tenant_id)
        row.project_id, row.revision = project_id, 1
        row.created_at, row.created_by = ctx.clock.now(), ctx.actor.id
        ctx.session.add(row)
    else:
        ctx.check_revision(row)
    row.limits = [limit.model_dump(mode="json") for limit in body.limits]
    ctx.session.flush()
    ctx.emit("modelops.compute.quota_set", row.id, scope=scope, holder=row.holder_id)
    return _quotas(ctx, [row])[0]


def list_quotas(ctx: Context, page: PageQuery) -> Page[Quota]:
    """List the quotas of the caller's tenant and project; for who leads the tenant, of all its projects."""
    ctx.require("compute.read")
    found = list_rows(ctx, select(QuotaRow).where(_visible(ctx)), QuotaRow.id, _FIELDS, page)
    return Page(items=_quotas(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_quota(ctx: Context, scope: QuotaScope, holder: str) -> Quota:
    """Return a quota, and how much of it is used."""
    ctx.require("compute.read")
    key = (
        identity.get_tenant(ctx, holder).id
        if scope is QuotaScope.TENANT
        else identity.project_of_tenant(ctx, holder).id
    )
    row = ctx.session.scalars(select(QuotaRow).where(QuotaRow.holder_id == key, _visible(ctx))).one_or_none()
    if row is None:
        raise _none(scope, holder)
    return _quotas(ctx, [row])[0]


def delete_quota(ctx: Context, scope: QuotaScope, holder: str) -> None:
    """Limit a tenant or project no more."""
    tenant_id, project_id = _limited_by_caller(ctx, scope, holder)
    note_change(ctx)
    row = _row_of(ctx, project_id or tenant_id)
    if row is None:
        raise _none(scope, holder)
    ctx.session.delete(row)
    ctx.emit("modelops.compute.quota_deleted", row.id, scope=scope, holder=row.holder_id)


def counts_all_jobs(ctx: Context) -> bool:
    """Tell whether a quota of the current project or its tenant counts even jobs that ask for nothing that queues give: those
    must be in a queue, or nobody would count them (for the domains above)."""
    return bool(limited_in_all(ctx, identity.tenant_of(ctx, ctx.project_id)))


def limited_in_all(ctx: Context, tenant_id: str) -> frozenset[QuotaResource]:
    """Return the resources of all jobs that a quota of the current project or its tenant limits, whatever their flavor."""
    query = select(QuotaRow.limits).where(QuotaRow.holder_id.in_([tenant_id, ctx.project_id]))
    limits = [QuotaLimit.model_validate(one) for found in ctx.session.scalars(query) for one in found]
    return frozenset(one.resource for one in limits if one.flavor is None) & _OF_ALL_JOBS


def usage_of(ctx: Context, rows: Collection[QuotaRow]) -> dict[str, list[QuotaUsage]]:
    """Return the limits of quotas, and what is used of each, by the quotas' ids."""
    held = held_of_holders(ctx, [row.holder_id for row in rows])
    found: dict[str, list[QuotaUsage]] = {}
    for row in rows:
        of_holder = held.get(row.holder_id, {})
        for one in map(QuotaLimit.model_validate, row.limits):
            used = amount(of_holder.get((one.flavor, one.resource.value), 0))
            found.setdefault(row.id, []).append(QuotaUsage(**one.model_dump(), used=used))
    return found


def _limited_by_caller(ctx: Context, scope: QuotaScope, holder: str) -> tuple[str, str | None]:
    """Return the tenant, and the project if it is one's, whose quota the caller may set."""
    if scope is QuotaScope.TENANT:
        ctx.require(OPERATE)
        return identity.get_tenant(ctx, holder).id, None
    ctx.require("quotas.write")
    project = identity.project_of_tenant(ctx, holder)
    if not identity.leads_tenant(ctx):
        raise PermissionDenied(
            "Only who leads the tenant limits its projects.",
            hint="An administrator of the tenant's first project, `default`, does: mops --project default quotas set …",
        )
    return project.tenant_id, project.id


def _row_of(ctx: Context, holder_id: str) -> QuotaRow | None:
    return ctx.session.scalars(select(QuotaRow).where(QuotaRow.holder_id == holder_id)).one_or_none()


def _visible(ctx: Context) -> ColumnElement[bool]:
    if ctx.can(OPERATE):
        return true()
    if identity.leads_tenant(ctx):
        return QuotaRow.tenant_id == ctx.actor.tenant_id
    return or_(QuotaRow.holder_id == ctx.actor.tenant_id, QuotaRow.project_id == ctx.actor.project_id)


def _none(scope: QuotaScope, holder: str) -> NotFound:
    return NotFound(f"The {scope} '{holder[:250]}' has no quota.", hint=f"mops quotas set {scope} NAME --limit jobs=10")


def _quotas(ctx: Context, rows: list[QuotaRow]) -> list[Quota]:
    names = identity.names_of(ctx, {key for row in rows for key in (row.tenant_id, row.holder_id)})
    usage = usage_of(ctx, rows)
    shown = []
    for row in rows:
        own = {name: getattr(row, name) for name in Quota.model_fields if hasattr(row, name)}
        facts = {"tenant": names[row.tenant_id], "project": names[row.project_id] if row.project_id else None}
        shown.append(Quota.model_validate({**own, **facts, "limits": usage.get(row.id, [])}))
    return shown
