"""The outbox: events leave in the transaction that caused them, and reach every handler at least once.

`Context.emit` writes the event; the dispatcher, under a lease, gives committed events their positions and hands them to
the handlers. A handler runs in a unit of work of its own, in which its receipt is written too, so what it does to the
database happens exactly once. Events of one subject are delivered in order: a failing one holds back those after it until
it succeeds, or is given up after `GIVE_UP_AFTER` attempts and kept with the failure for `mops doctor`.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session

from modelops.contracts.clock import Clock
from modelops.contracts.events import Event
from modelops.contracts.ids import new_id
from modelops.kernel.context import Actor, Context
from modelops.kernel.database import Raw
from modelops.kernel.leases import Lease, guard
from modelops.kernel.tables import EventRow, ReceiptRow
from modelops.kernel.work import Workplace

Handler = Callable[[Context, Event], None]
Handlers = Mapping[str, Sequence[tuple[str, Handler]]]
"""Event type -> named handlers."""

GIVE_UP_AFTER = 10
_BATCH = 200
_FRESH = and_(EventRow.position.is_(None), EventRow.done_at.is_(None))  # so asked for, an index of few rows answers

log = logging.getLogger(__name__)


def dispatch(place: Workplace, handlers: Handlers, lease: Lease) -> int:
    """Deliver what is due and return how many events were finished."""
    with place.work(write=False) as ctx:
        fresh = ctx.session.scalar(select(EventRow.number).where(_FRESH).limit(1)) is not None
    if fresh:
        with place.work() as ctx:
            guard(ctx.session, lease)
            _give_positions(ctx, handlers)
    with place.work(write=False) as ctx:
        due = [(row.number, to_event(row), row.attempts) for row in _due(ctx.session, place.clock)]
    finished, blocked = 0, set[str]()
    for number, event, attempts in due:
        if event.subject in blocked:
            continue
        failure = _deliver(place, handlers.get(event.type, ()), number, event)
        if failure is not None:
            blocked.add(event.subject)
        with place.work() as ctx:
            guard(ctx.session, lease)
            _settle(ctx, number, attempts + 1, failure)
        finished += failure is None
    return finished


def put(raw: Raw, place: Workplace | Context, actor: Actor, type_: str, subject: str, **data: Any) -> None:
    """Record that something happened, in a raw transaction; arguments as `Context.emit`."""
    put_all(raw, place, actor, type_, [(subject, data)])


def put_all(
    raw: Raw, place: Workplace | Context, actor: Actor, type_: str, events: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
    """Record that something happened to several subjects, in this order, each with what is told of it."""
    source, now = f"modelops/{type_.split('.')[1]}", raw.moment(place.clock.now())
    raw.executemany(
        "INSERT INTO outbox_events (id, type, source, subject, time, tenant_id, project_id, actor, data, attempts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        [
            (new_id("evt"), type_, source, subject, now, actor.tenant_id, actor.project_id, actor.id, json.dumps(data))
            for subject, data in events
        ],
    )


def to_event(row: EventRow) -> Event:
    """Return a row as the CloudEvent it is."""
    return Event(
        specversion="1.0",
        id=row.id,
        source=row.source,
        type=row.type,
        subject=row.subject,
        time=row.time,
        project=row.project_id,
        sequence=row.position,
        actor=row.actor,
        data=row.data,
    )


def stream(session: Session, project_id: str, after: int, limit: int = 500) -> list[Event]:
    """Return a project's events behind a position, in order."""
    rows = session.scalars(
        select(EventRow)
        .where(EventRow.project_id == project_id, EventRow.position > after)
        .order_by(EventRow.position)
        .limit(limit)
    )
    return [to_event(row) for row in rows]


def newest(session: Session) -> int:
    """Return the position of the newest event that has one, of any project; 0 where there is none."""
    return session.scalar(select(func.max(EventRow.position)).where(EventRow.position.is_not(None))) or 0


def given_up(session: Session) -> int:
    """Count the events whose delivery was given up."""
    return session.scalar(select(func.count()).where(EventRow.failure.is_not(None), EventRow.done_at.is_not(None))) or 0


def forget(session: Session, clock: Clock, older_than_s: float) -> int:
    """Delete delivered events, and their receipts, that are older than the stream keeps.

    The newest stays however old it is: positions are counted on from it, and readers remember them.
    """
    old = select(EventRow.number).where(
        EventRow.done_at < clock.now() - timedelta(seconds=older_than_s),
        EventRow.failure.is_(None),
        EventRow.position < newest(session),
    )
    session.execute(delete(ReceiptRow).where(ReceiptRow.event_number.in_(old)))
    return int(session.execute(delete(EventRow).where(EventRow.number.in_(old))).rowcount)  # type: ignore[attr-defined]


def _give_positions(ctx: Context, handlers: Handlers) -> None:
    """Give committed events their positions; those that no handler hears are done with that."""
    session, now = ctx.session, ctx.clock.now()
    query = select(EventRow.number, EventRow.type).where(_FRESH).order_by(EventRow.number).limit(1000)
    fresh = session.execute(query).all()
    last = newest(session)
    positions = [
        {"number": number, "position": last + index, "done_at": None if handlers.get(type_) else now}
        for index, (number, type_) in enumerate(fresh, start=1)
    ]
    if positions:
        session.execute(update(EventRow), positions)


def _due(session: Session, clock: Clock) -> list[EventRow]:
    """Return the unfinished events in order, without those behind an earlier one of their subject that waits."""
    rows = session.scalars(
        select(EventRow)
        .where(EventRow.done_at.is_(None), EventRow.position.is_not(None))
        .order_by(EventRow.position)
        .limit(_BATCH)
    )
    waiting, due = set[str](), []
    now = clock.now()
    for row in rows:
        if row.subject in waiting or (row.next_attempt_at is not None and row.next_attempt_at > now):
            waiting.add(row.subject)
        else:
            due.append(row)
    return due


def _deliver(place: Workplace, handlers: Sequence[tuple[str, Handler]], number: int, event: Event) -> str | None:
    """Hand an event to each handler that has no receipt for it; return the first failure."""
    failure = None
    for name, handler in handlers:
        try:
            with place.work() as ctx:
                if ctx.session.get(ReceiptRow, (number, name)) is not None:
                    continue
                handler(_for_event(ctx, event), event)
                ctx.session.add(ReceiptRow(event_number=number, handler=name))
        except Exception as wrong:
            log.exception("handler failed", extra={"handler": name, "event": event.id, "event_type": event.type})
            failure = failure or f"{name}: {type(wrong).__name__}: {wrong}"[:2000]
    return failure


def _for_event(ctx: Context, event: Event) -> Context:
    return ctx if event.project is None else ctx.within(event.project)


def _settle(ctx: Context, number: int, attempts: int, failure: str | None) -> None:
    now = ctx.clock.now()
    values: dict[str, Any] = {"attempts": attempts, "failure": failure}
    if failure is None or attempts >= GIVE_UP_AFTER:
        values["done_at"] = now
    else:
        values["next_attempt_at"] = now + timedelta(seconds=min(2.0**attempts / 4, 300.0))
    ctx.session.execute(update(EventRow).where(EventRow.number == number).values(**values))
