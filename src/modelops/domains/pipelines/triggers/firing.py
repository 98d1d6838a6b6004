"""From what happened to what it leads to: by the trigger's mapping, debounce, rate limit and overlap."""

from datetime import datetime, timedelta

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.beginnings.beginning import (
    Cause,
    count_since,
    fail,
    record,
    settle_due,
    skip,
    supersede,
)
from modelops.domains.pipelines.beginnings.owners import Owner
from modelops.domains.pipelines.beginnings.schemas import BeginningState, Overlap, Target
from modelops.domains.pipelines.beginnings.tables import BeginningRow
from modelops.domains.pipelines.beginnings.targets import read_target, with_parameters
from modelops.domains.pipelines.triggers.facts import Facts, given_by
from modelops.domains.pipelines.triggers.schemas import RateLimit
from modelops.domains.pipelines.triggers.tables import TriggerRow
from modelops.kernel.context import Context


def fire(ctx: Context, row: TriggerRow, key: str, moment: datetime, facts: Facts, *, depth: int = 0) -> BeginningRow:
    """Let a trigger begin something, once for a key; what was recorded under it before is returned as it is.

    Args:
        row: The trigger, locked.
        key: Of the event or the message.
        moment: When it happened.
        facts: What is known of it.
        depth: How many beginnings led to it.
    """
    now = ctx.clock.now()
    over = _over_the_limit(ctx, row, now)
    target, flaw = _target(row, facts)
    begins_at = now + timedelta(seconds=row.debounce_s)
    made, new = record(ctx, cause_of(row), key, moment, target, begins_at=begins_at, depth=depth)
    if not new or made.state != BeginningState.WAITING:
        return made
    if flaw is not None:
        fail(ctx, made, flaw)
    elif over is not None:
        skip(ctx, made, over)
    elif row.debounce_s:
        supersede(ctx, made, f"Something newer happened within {row.debounce_s:g} s.")
    settle_due(ctx, row.id)
    return made


def cause_of(row: TriggerRow) -> Cause:
    """Return a trigger as a cause."""
    return Cause(row.id, f"trigger:{row.name}", row.project_id, Owner(row.owner, row.permissions), Overlap(row.overlap))


def _target(row: TriggerRow, facts: Facts) -> tuple[Target, str | None]:
    """Return what is to begin, and what is wrong with it: what happens elsewhere must not hold the stream up."""
    own = read_target(row.target)
    try:
        return with_parameters(own, given_by(row.mapping, facts)), None
    except InvalidInput as wrong:
        return own, str(wrong)


def _over_the_limit(ctx: Context, row: TriggerRow, now: datetime) -> str | None:
    if row.limit is None:
        return None
    limit = RateLimit.model_validate(row.limit)
    if count_since(ctx, row.id, now - timedelta(seconds=limit.per_s)) < limit.most:
        return None
    return f"The rate limit is reached: {limit.most} in {limit.per_s:g} s."
