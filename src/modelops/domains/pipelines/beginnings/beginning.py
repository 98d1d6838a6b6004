"""From a cause to what it leads to: recorded once by its key, and begun in the transaction that says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select

from modelops.contracts.errors import MLOpsError
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page, jsonable
from modelops.domains.pipelines.beginnings.owners import Owner, as_platform, in_place_of
from modelops.domains.pipelines.beginnings.rules import DEEPEST, Turn, decide
from modelops.domains.pipelines.beginnings.schemas import Beginning, BeginningState, Overlap, Target
from modelops.domains.pipelines.beginnings.tables import BeginningRow
from modelops.domains.pipelines.beginnings.targets import (
    Begun,
    begin_target,
    begun_by,
    cancel_begun,
    is_under_way,
    read_target,
)
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_FIELDS = {
    "state": BeginningRow.state,
    "moment": BeginningRow.moment,
    "run_id": BeginningRow.run_id,
    "job_id": BeginningRow.job_id,
    "created_at": BeginningRow.created_at,
}
_WAITS = BeginningState.WAITING
_SERVER_FAULT = 500
_AT_ONCE = 500


@dataclass(frozen=True)
class Cause:
    """What makes things begin: `name` is `schedule:<name>` or the like, `overlap` its policy."""

    id: str
    name: str
    project_id: str
    owner: Owner
    overlap: Overlap


def record(
    ctx: Context, cause: Cause, key: str, moment: datetime, target: Target, *, begins_at: datetime, depth: int = 0
) -> tuple[BeginningRow, bool]:
    """Write down that something is to begin; return that, or what is written of it already, and whether it is new.

    Args:
        cause: Why.
        key: What happens once: a due moment, an event's id.
        moment: When it was due, or happened.
        target: What is to begin.
        begins_at: Not before that.
        depth: How many beginnings led to this one.
    """
    known = find_beginning(ctx, cause.id, key)
    if known is not None:
        return known, False
    row = _row(ctx, cause, key, moment, target, begins_at)
    row.depth = depth
    ctx.session.add(row)
    ctx.session.flush()
    if depth >= DEEPEST:
        fail(ctx, row, f"It would be the {depth + 1}th of a chain in which each led to the next; {DEEPEST} may.")
    return row, True


def record_missed(ctx: Context, cause: Cause, key: str, moments: Sequence[datetime], target: Target, why: str) -> None:
    """Write down, as one, that moments were missed."""
    if moments and find_beginning(ctx, cause.id, key) is None:
        row = _row(ctx, cause, key, moments[-1], target, moments[-1])
        row.missed = len(moments)
        _end(ctx, row, BeginningState.MISSED, why)
        ctx.session.add(row)
        ctx.session.flush()


def settle_due(ctx: Context, cause_id: str) -> None:
    """Bring what waits of a cause, and whose time has come, as far as it can come."""
    rows = _open_rows(ctx, cause_id)
    running = [row for row in rows if row.state == BeginningState.BEGUN and _still_runs(ctx, row)]
    now = ctx.clock.now()
    waiting: list[BeginningRow] = []
    for row in rows:
        if row.state == _WAITS and row.begins_at <= now:
            _settle(ctx, row, running, waiting)


def skip_waiting(ctx: Context, cause_id: str, why: str) -> None:
    """Skip what waits of a cause: it is gone, or something newer takes its place."""
    for row in _open_rows(ctx, cause_id):
        if row.state == _WAITS:
            _end(ctx, row, BeginningState.SKIPPED, why)


def supersede(ctx: Context, row: BeginningRow, why: str) -> None:
    """Skip what was to begin for the same cause and whose time has not come: a newer one took its place."""
    now = ctx.clock.now()
    for one in _open_rows(ctx, row.cause_id):
        if one.id != row.id and one.state == _WAITS and one.begins_at > now:
            skip(ctx, one, why)


def skip(ctx: Context, row: BeginningRow, why: str) -> None:
    """Let something not begin."""
    _end(ctx, row, BeginningState.SKIPPED, why)


def fail(ctx: Context, row: BeginningRow, why: str) -> None:
    """Write down that something cannot begin, and tell."""
    _end(ctx, row, BeginningState.FAILED, why)
    inside = as_platform(ctx, row.project_id)
    inside.emit("modelops.pipelines.beginning_failed", row.cause_id, cause=row.cause, reason=row.reason, id=row.id)


def count_since(ctx: Context, cause_id: str, since: datetime) -> int:
    """Count what a cause led to, or is to lead to, that was written down since."""
    told = BeginningRow.state.in_((BeginningState.WAITING, BeginningState.BEGUN))
    query = select(func.count()).where(BeginningRow.cause_id == cause_id, BeginningRow.created_at > since, told)
    return ctx.session.scalar(query) or 0


def forget_early(ctx: Context, cause_id: str, now: datetime) -> None:
    """Forget what led to nothing at moments that are still to come: a clock that was wrong had been there."""
    early = (BeginningRow.cause_id == cause_id, BeginningRow.moment > now, BeginningRow.settled_at.is_not(None))
    ctx.session.execute(delete(BeginningRow).where(*early, BeginningRow.state != BeginningState.BEGUN))


def forget_old(ctx: Context, older_than_s: float) -> None:
    """Forget what came to its end so long ago."""
    before = ctx.clock.now() - timedelta(seconds=older_than_s)
    begun = (BeginningRow.settled_at < before, BeginningRow.unfinished, BeginningRow.state == BeginningState.BEGUN)
    for row in ctx.session.scalars(select(BeginningRow).where(*begun).order_by(BeginningRow.id).limit(_AT_ONCE)):
        _still_runs(ctx, row)
    ctx.session.flush()
    ctx.session.execute(delete(BeginningRow).where(BeginningRow.settled_at < before, ~BeginningRow.unfinished))


def due_causes(ctx: Context) -> list[str]:
    """Return the causes, of any project, of which something waits whose time has come."""
    query = select(BeginningRow.cause_id).where(BeginningRow.state == _WAITS, BeginningRow.begins_at <= ctx.clock.now())
    return list(ctx.session.scalars(query.distinct()))


def can_move(ctx: Context, cause_id: str) -> bool:
    """Tell whether something of a cause could begin now, or was not looked at yet."""
    rows = _open_rows(ctx, cause_id, lock=False)
    fresh = any(row.state == _WAITS and row.reason is None for row in rows)
    return fresh or not any(row.state == BeginningState.BEGUN and _runs(ctx, row) for row in rows)


def depth_of(ctx: Context, ids: Sequence[str]) -> int:
    """Return how many beginnings led to what these ids name or did: runs, jobs, or whoever acted as one of them."""
    deepest = 0
    for one in ids:
        at: str | None = one
        for _ in range(2 * DEEPEST):
            if at is None:
                break
            known = select(BeginningRow.depth).where((BeginningRow.run_id == at) | (BeginningRow.job_id == at)).limit(1)
            depth = ctx.session.scalar(known)
            if depth is not None:
                deepest = max(deepest, depth + 1)
                break
            at = begun_by(ctx, at)
    return deepest


def list_beginnings(ctx: Context, cause_id: str, page: PageQuery) -> Page[Beginning]:
    """List what a cause led to, newest first."""
    query = ctx.query(BeginningRow).where(BeginningRow.cause_id == cause_id)
    found = list_rows(ctx, query, BeginningRow.id, _FIELDS, page, order="desc")
    return Page(items=[as_beginning(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def find_beginning(ctx: Context, cause_id: str, key: str) -> BeginningRow | None:
    """Return what became of a key, if it is known."""
    query = select(BeginningRow).where(BeginningRow.cause_id == cause_id, BeginningRow.key == key)
    return ctx.session.scalars(query).one_or_none()


def as_beginning(row: BeginningRow) -> Beginning:
    """Return a row as it is shown."""
    return Beginning.model_validate(row, from_attributes=True)


def _row(ctx: Context, cause: Cause, key: str, moment: datetime, target: Target, begins_at: datetime) -> BeginningRow:
    return BeginningRow(
        id=new_id("beg"),
        project_id=cause.project_id,
        cause_id=cause.id,
        cause=cause.name,
        key=key,
        owner=cause.owner.id,
        permissions=cause.owner.permissions,
        target=jsonable(target),
        overlap=cause.overlap,
        moment=moment,
        begins_at=begins_at,
        state=_WAITS,
        unfinished=True,
        missed=0,
        depth=0,
        created_at=ctx.clock.now(),
    )


def _open_rows(ctx: Context, cause_id: str, *, lock: bool = True) -> Sequence[BeginningRow]:
    query = select(BeginningRow).where(BeginningRow.cause_id == cause_id, BeginningRow.unfinished)
    query = query.order_by(BeginningRow.begins_at, BeginningRow.id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return ctx.session.scalars(query).all()


def _settle(ctx: Context, row: BeginningRow, running: list[BeginningRow], waiting: list[BeginningRow]) -> None:
    turn = decide(Overlap(row.overlap), running=bool(running), waiting=bool(waiting))
    names = ", ".join(str(one.run_id or one.job_id) for one in running) or "an earlier one"
    if turn is Turn.BEGIN:
        _begin(ctx, row)
        running += [row] if row.state == BeginningState.BEGUN else []
    elif turn is Turn.SKIP:
        why = "One waits for its turn already." if waiting else f"{names} was under way."
        _end(ctx, row, BeginningState.SKIPPED, why)
    else:
        if turn is Turn.TAKE_OVER:
            for one in waiting:
                _end(ctx, one, BeginningState.SKIPPED, "A newer one took its place.")
            waiting.clear()
            inside = as_platform(ctx, row.project_id)
            for one in running:
                cancel_begun(inside, Begun(one.run_id, one.job_id), f"{row.cause} begins the next one.")
        row.reason = f"It waits for the end of {names}."
        waiting.append(row)


def _begin(ctx: Context, row: BeginningRow) -> None:
    """Begin it in the owner's place. What is wrong with it is written down; that the platform fails is not."""
    try:
        inside = in_place_of(ctx, row.project_id, Owner(row.owner, row.permissions), row.cause)
        with ctx.session.begin_nested():
            begun = begin_target(inside, read_target(row.target), row.cause)
    except MLOpsError as wrong:
        if wrong.status >= _SERVER_FAULT:
            raise
        fail(ctx, row, str(wrong))
        return
    row.run_id, row.job_id = begun.run_id, begun.job_id
    row.state, row.reason, row.settled_at = BeginningState.BEGUN, None, ctx.clock.now()


def _end(ctx: Context, row: BeginningRow, state: BeginningState, why: str) -> None:
    row.state, row.reason, row.unfinished, row.settled_at = state, why[:5000], False, ctx.clock.now()


def _still_runs(ctx: Context, row: BeginningRow) -> bool:
    row.unfinished = _runs(ctx, row)
    return row.unfinished


def _runs(ctx: Context, row: BeginningRow) -> bool:
    return is_under_way(as_platform(ctx, row.project_id), Begun(row.run_id, row.job_id))
