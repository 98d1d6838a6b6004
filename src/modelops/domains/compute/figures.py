"""The pools' figures in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from collections.abc import Mapping

from sqlalchemy import select

from modelops.domains.compute.allocator.model import PoolMode
from modelops.domains.compute.quotas import usage_of
from modelops.domains.compute.tables import LedgerRow, PoolRow, QuotaRow
from modelops.domains.compute.usage import allocated_shares, pending_by_pool
from modelops.domains.identity import service as identity
from modelops.kernel.context import Context

Series = list[tuple[Mapping[str, str], float]]


def pool_metrics(ctx: Context) -> str:
    """Return capacity, allocation and waiting of every pool, the last two by tenant (for the platform's `/metrics`)."""
    ctx.require("metrics.read")
    pools = ctx.session.scalars(select(PoolRow).order_by(PoolRow.name)).all()
    held, waiting = allocated_shares(ctx), pending_by_pool(ctx)
    tenants = {tenant: identity.get_tenant(ctx, tenant).name for _, tenant in (*held, *waiting)}
    ledger = ctx.session.scalars(select(LedgerRow)).one_or_none()
    limits, used = _quotas(ctx)
    capacity: Series = [
        (
            {"pool": row.name, "mode": row.mode, "best_effort": str(row.mode == PoolMode.TIME_SLICE).lower()},
            row.capacity_shares,
        )
        for row in pools
    ]
    return "".join(
        (
            _family("modelops_pool_capacity_shares", "gauge", "Shares that a pool has.", capacity),
            _family("modelops_pool_allocated_shares", "gauge", "Shares that jobs hold.", _by_tenant(held, tenants)),
            _family(
                "modelops_pool_pending", "gauge", "Jobs that wait and could run there.", _by_tenant(waiting, tenants)
            ),
            _family("modelops_quota_limit", "gauge", "The most that a tenant or project may hold.", limits),
            _family("modelops_quota_used", "gauge", "What a tenant or project with a quota holds.", used),
            _family(
                "modelops_pool_repaired_total",
                "counter",
                "Jobs that had ended and held their quota still, found by the sweep.",
                [({}, ledger.repaired if ledger else 0)],
            ),
        )
    )


def _quotas(ctx: Context) -> tuple[Series, Series]:
    """Return the limits of quotas, and what is used of each."""
    rows = ctx.session.scalars(select(QuotaRow).order_by(QuotaRow.tenant_id, QuotaRow.project_id)).all()
    names = identity.names_of(ctx, {key for row in rows for key in (row.tenant_id, row.holder_id)})
    usage = usage_of(ctx, rows)
    limits: Series = []
    used: Series = []
    for row in rows:
        holder = {"tenant": names[row.tenant_id], "project": names[row.project_id] if row.project_id else ""}
        for one in usage.get(row.id, []):
            labels = {**holder, "resource": one.resource.value, "flavor": one.flavor or ""}
            limits.append((labels, one.limit))
            used.append((labels, one.used))
    return limits, used


def _by_tenant(found: Mapping[tuple[str, str], int], tenants: Mapping[str, str]) -> Series:
    return [({"pool": pool, "tenant": tenants[tenant]}, count) for (pool, tenant), count in sorted(found.items())]


def _family(name: str, kind: str, told: str, series: Series) -> str:
    lines = [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
    for labels, value in series:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        number = f"{value:.15g}"
        lines.append(f"{name}{{{inside}}} {number}" if inside else f"{name} {number}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
