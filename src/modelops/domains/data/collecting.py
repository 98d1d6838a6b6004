"""What becomes of blobs that nothing refers to: they are noted, and after a time of grace their bytes are removed.

Two clocks must have run out before bytes go: the one since the blob was first seen unheld, so that what was let go of can be
had back, and the blob's own age in the store, which every put renews, so that a content that is just being put, and whose
row is about to be written, is never taken. The store itself compares the age and removes the blob in one step.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from modelops.contracts.errors import Conflict
from modelops.contracts.ports import BlobStore, EncryptedStore, StoredBlob
from modelops.domains.data.schemas import GarbageCollection, KeyRotation
from modelops.domains.data.tables import GarbageWalkRow, UnheldBlobRow, UploadPartRow, UploadRow
from modelops.kernel.context import Context
from modelops.kernel.holding import Holders
from modelops.kernel.work import Workplace

AT_ONCE = 500
_WALK = 1


@dataclass(frozen=True)
class Doomed:
    """Blobs to be removed, unless they were put since `cutoff`; `noted` are they and those that are held again."""

    digests: list[str]
    noted: list[str]
    cutoff: datetime


@dataclass
class Tally:
    """What a collection counts."""

    seen: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("examined", "examined_size", "unheld", "unheld_size", "waiting", "removed", "removed_size"), 0
        )
    )

    def add(self, what: str, blobs: Sequence[StoredBlob]) -> None:
        """Count blobs."""
        self.seen[what] += len(blobs)
        self.seen[f"{what}_size"] += sum(blob.stored_size for blob in blobs)


def check_collection(ctx: Context) -> None:
    """Refuse who may not look after the platform's store."""
    ctx.require("artifacts.manage")


def collect_garbage(place: Workplace, *, dry_run: bool) -> GarbageCollection:
    """Look at every blob, note those that nothing refers to, and remove those whose time of grace is over.

    Opens short units of work of the system's: who asked was checked before (`check_collection`).
    """
    store: BlobStore = place.ports[BlobStore]
    tally = Tally()
    for blobs in _batches(store.walk()):
        tally.add("examined", blobs)
        with place.work(write=not dry_run) as ctx:
            unheld = survey(ctx, blobs, note=not dry_run)
            waiting = set(_still_waiting(ctx, unheld))
        tally.add("unheld", unheld)
        tally.seen["waiting"] += len(waiting)
        if dry_run:
            continue
        ready = {blob.digest: blob for blob in unheld if blob.digest not in waiting}
        if not ready:
            continue
        with place.work(write=False) as ctx:
            doomed = recheck(ctx, list(ready))
        gone = remove(store, doomed)
        with place.work() as ctx:
            forget(ctx, doomed.noted)
        tally.add("removed", [ready[digest] for digest in gone])
    return GarbageCollection(dry_run=dry_run, **tally.seen)


def survey(ctx: Context, blobs: Sequence[StoredBlob], *, note: bool) -> list[StoredBlob]:
    """Return those of the blobs that nothing refers to; note them as unheld from now on, and the others as held."""
    held = ctx.port(Holders).held(ctx, [blob.digest for blob in blobs])
    unheld = [blob for blob in blobs if blob.digest not in held]
    if note:
        forget(ctx, list(held))
        _note(ctx, unheld)
    return unheld


def doomed_blobs(ctx: Context) -> Doomed:
    """Return some blobs whose time of grace is over."""
    query = select(UnheldBlobRow.digest).where(UnheldBlobRow.since <= cutoff(ctx)).order_by(UnheldBlobRow.since)
    return recheck(ctx, list(ctx.session.scalars(query.limit(AT_ONCE))))


def walk_is_due(ctx: Context) -> bool:
    """Tell whether a walk over the store is under way, or the last one began an interval ago."""
    row = ctx.session.get(GarbageWalkRow, _WALK)
    interval = timedelta(seconds=ctx.settings.collect_interval_s)
    return row is None or not row.ended or ctx.clock.now() - row.begun_at >= interval


def walk_position(ctx: Context) -> str | None:
    """Return the digest behind which the walk goes on; None where it begins."""
    row = ctx.session.get(GarbageWalkRow, _WALK)
    return None if row is None or row.ended else row.after


def walk_on(ctx: Context, last: str | None) -> None:
    """Note how far the walk is, or with None that it is at its end; with it, forget uploads of senders long gone."""
    row = ctx.session.get(GarbageWalkRow, _WALK)
    if row is None or row.ended:
        begun = GarbageWalkRow(id=_WALK, after=None, begun_at=ctx.clock.now(), ended=False)
        row = ctx.session.merge(begun)
    row.after, row.ended = last, last is None
    if row.ended:
        forget_uploads(ctx)


def any_doomed(ctx: Context) -> bool:
    """Tell whether any blob's time of grace is over."""
    query = select(UnheldBlobRow.digest).where(UnheldBlobRow.since <= cutoff(ctx)).limit(1)
    return ctx.session.scalars(query).first() is not None


def recheck(ctx: Context, digests: list[str]) -> Doomed:
    """Return those of the digests that still nothing refers to."""
    held = ctx.port(Holders).held(ctx, digests)
    return Doomed([digest for digest in digests if digest not in held], digests, cutoff(ctx))


def remove(store: BlobStore, doomed: Doomed) -> list[str]:
    """Remove blobs from the store, and return those that were removed."""
    return [digest for digest in doomed.digests if store.delete(digest, unless_put_since=doomed.cutoff)]


def forget(ctx: Context, digests: Sequence[str]) -> None:
    """Note the blobs no longer as unheld: they are gone, or taken up again, or to be noted anew."""
    for part in _cut(digests):
        ctx.session.execute(delete(UnheldBlobRow).where(UnheldBlobRow.digest.in_(part)))


def forget_uploads(ctx: Context) -> None:
    """Forget uploads whose senders were not heard of for long; their parts are unheld from now on."""
    before = ctx.clock.now() - timedelta(seconds=ctx.settings.upload_ttl_s)
    old = select(UploadRow.id).where(UploadRow.heard_at < before)
    ctx.session.execute(delete(UploadPartRow).where(UploadPartRow.upload_id.in_(old)))
    ctx.session.execute(delete(UploadRow).where(UploadRow.heard_at < before))


def cutoff(ctx: Context) -> datetime:
    """Return the moment before which a time of grace must have begun to be over."""
    return ctx.clock.now() - timedelta(seconds=ctx.settings.artifact_grace_s)


def rewrap_keys(place: Workplace) -> KeyRotation:
    """Wrap the key of every encrypted artifact with the first encryption key. Who asked was checked before.

    Raises:
        Conflict: nothing is encrypted here.
    """
    store = place.ports[BlobStore]
    if not isinstance(store, EncryptedStore):
        raise Conflict(
            "The platform's artifacts are not encrypted.",
            hint="Name encryption keys (MODELOPS_ENCRYPTION_KEYS or MODELOPS_ENCRYPTION_KEY_FILE) and restart it.",
        )
    done = store.rewrap_keys()
    return KeyRotation(rewrapped=done.rewrapped, current=done.current, failed=done.failed[:1000])


def _still_waiting(ctx: Context, unheld: Sequence[StoredBlob]) -> Iterator[str]:
    limit = cutoff(ctx)
    over = set()
    for part in _cut([blob.digest for blob in unheld]):
        query = select(UnheldBlobRow.digest).where(UnheldBlobRow.digest.in_(part), UnheldBlobRow.since <= limit)
        over |= set(ctx.session.scalars(query))
    yield from (blob.digest for blob in unheld if blob.digest not in over or blob.stored_at >= limit)


def _note(ctx: Context, unheld: Sequence[StoredBlob]) -> None:
    """Note blobs as unheld from now on; those that were noted before, by another collection at this moment too, stay so."""
    now = ctx.clock.now()
    rows = [{"digest": blob.digest, "stored_size": blob.stored_size, "since": now} for blob in unheld]
    if rows:
        dialect = sqlite if ctx.session.get_bind().dialect.name == "sqlite" else postgresql
        ctx.session.execute(dialect.insert(UnheldBlobRow).on_conflict_do_nothing(), rows)


def _cut(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(digests), AT_ONCE):
        yield digests[start : start + AT_ONCE]


def _batches(blobs: Iterator[StoredBlob]) -> Iterator[list[StoredBlob]]:
    while batch := list(itertools.islice(blobs, AT_ONCE)):
        yield batch
