"""Leases: who may act, so that controllers are safe in any number.

A lease is taken by one conditional UPDATE that is the same on both databases. Its token grows with every holder; whoever
acts under a lease writes only while the token is still his (`guard`), so a controller that was paused or cut off cannot
overwrite what its successor did.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from modelops.contracts.clock import Clock
from modelops.contracts.errors import Conflict
from modelops.kernel.database import Database
from modelops.kernel.tables import LeaseRow


class LeaseLost(Conflict):
    """Another holder has taken the lease since."""

    code, title = "lease_lost", "The lease was lost"


@dataclass(frozen=True)
class Lease:
    """A lease held: proof is its token."""

    name: str
    holder: str
    token: int


def acquire(session: Session, clock: Clock, name: str, holder: str, ttl_s: float) -> Lease | None:
    """Take or renew a lease. Returns None while another holds it.

    The token grows when the holder changes or the lease had run out, and stays on a renewal.
    """
    now = clock.now()
    until = now + timedelta(seconds=ttl_s)
    renewed = session.execute(
        update(LeaseRow)
        .where(LeaseRow.name == name, LeaseRow.holder == holder, LeaseRow.expires_at > now)
        .values(expires_at=until)
    )
    if not renewed.rowcount:  # type: ignore[attr-defined]
        taken = session.execute(
            update(LeaseRow)
            .where(LeaseRow.name == name, (LeaseRow.expires_at <= now) | (LeaseRow.holder == holder))
            .values(holder=holder, token=LeaseRow.token + 1, expires_at=until)
        )
        if not taken.rowcount and not _create(session, name, holder, until):  # type: ignore[attr-defined]
            return None
    token = session.execute(
        select(LeaseRow.token).where(LeaseRow.name == name, LeaseRow.holder == holder)
    ).scalar_one_or_none()
    return None if token is None else Lease(name, holder, token)


def renew(session: Session, clock: Clock, names: Collection[str], holder: str, ttl_s: float) -> frozenset[str]:
    """Renew those of several leases that a holder has still, and return their names; none changes its token."""
    now = clock.now()
    held = select(LeaseRow.name).where(LeaseRow.name.in_(names), LeaseRow.holder == holder, LeaseRow.expires_at > now)
    found = frozenset(session.scalars(held.order_by(LeaseRow.name).with_for_update()))
    until = now + timedelta(seconds=ttl_s)
    session.execute(update(LeaseRow).where(LeaseRow.name.in_(found)).values(expires_at=until))
    return found


def guard(session: Session, lease: Lease) -> None:
    """Refuse to go on unless the lease's token is still the newest. Holds the row until the transaction ends.

    Raises:
        LeaseLost: another holder has it.
    """
    row = session.execute(
        select(LeaseRow.token).where(LeaseRow.name == lease.name).with_for_update()
    ).scalar_one_or_none()
    if row != lease.token:
        raise LeaseLost(f"The lease '{lease.name}' (token {lease.token}) was taken by another controller.")


def release(database: Database, clock: Clock, lease: Lease) -> None:
    """Give a lease back, so that the next holder need not wait for it to run out."""
    with database.work() as session:
        session.execute(
            update(LeaseRow)
            .where(LeaseRow.name == lease.name, LeaseRow.token == lease.token)
            .values(expires_at=clock.now())
        )


def _create(session: Session, name: str, holder: str, until: object) -> bool:
    exists = session.execute(select(LeaseRow.name).where(LeaseRow.name == name)).scalar_one_or_none()
    if exists is not None:
        return False
    try:
        with session.begin_nested():
            session.execute(insert(LeaseRow).values(name=name, holder=holder, token=1, expires_at=until))
    except IntegrityError:
        return False
    return True


def expire_leases(session: Session, clock: Clock, holder_prefix: str) -> None:
    """End the leases of earlier processes of one home, which whoever opens it alone knows to be gone."""
    session.execute(
        update(LeaseRow)
        .where(LeaseRow.holder.startswith(holder_prefix, autoescape=True))
        .values(expires_at=clock.now())
    )
