"""The ledger: one row, held by whoever changes what is admitted. It makes admission one transaction at a time, however many
controllers decide: each sees all that those before it wrote."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from modelops.domains.compute.tables import LedgerRow
from modelops.kernel.context import Context


def hold_ledger(ctx: Context) -> LedgerRow:
    """Return the ledger, held until the unit of work ends.

    It is held before any workload's row is written, everywhere, so that no two wait for each other.
    """
    query = select(LedgerRow).with_for_update().execution_options(populate_existing=True)
    found = ctx.session.scalars(query).one_or_none()
    if found is None:
        row: Any = LedgerRow
        on_postgres = ctx.session.get_bind().dialect.name == "postgresql"
        insert = (postgresql.insert if on_postgres else sqlite.insert)(row)
        first = {"id": 1, "generation": 0, "considered": 0, "considered_at": ctx.clock.now(), "repaired": 0}
        ctx.session.execute(insert.values(first).on_conflict_do_nothing())
        found = ctx.session.scalars(query).one()
    return found


def note_change(ctx: Context) -> None:
    """Have it decided anew who is admitted."""
    hold_ledger(ctx).generation += 1
