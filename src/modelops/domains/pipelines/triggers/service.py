"""What is done with triggers. Context first, one verb a function; the edge commits."""

import secrets
from typing import Any

from sqlalchemy import or_

from modelops.contracts.errors import AlreadyExists, Conflict, InvalidInput
from modelops.contracts.ids import new_id
from modelops.contracts.messages import new_secret
from modelops.contracts.schemas import Page, jsonable
from modelops.domains.pipelines.beginnings.beginning import list_beginnings, skip_waiting
from modelops.domains.pipelines.beginnings.owners import owner_of
from modelops.domains.pipelines.beginnings.schemas import Beginning
from modelops.domains.pipelines.beginnings.targets import check_target, read_target
from modelops.domains.pipelines.triggers.facts import check_condition
from modelops.domains.pipelines.triggers.hooks import hash_token, seal
from modelops.domains.pipelines.triggers.schemas import Trigger, TriggerCreate, TriggerCreated, TriggerUpdate
from modelops.domains.pipelines.triggers.tables import TriggerRow
from modelops.kernel import outbox
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_FIELDS = {
    "name": TriggerRow.name,
    "hook": TriggerRow.hook,
    "paused": TriggerRow.paused,
    "created_at": TriggerRow.created_at,
    "created_by": TriggerRow.created_by,
}
_CLEARABLE = frozenset({"condition", "limit"})


def create_trigger(ctx: Context, body: TriggerCreate) -> TriggerCreated:
    """Begin something because something happens, from now on; of a hook, the path and the secret are in this answer only.

    Raises:
        AlreadyExists: the name is taken.
        InvalidInput: the condition cannot be read, or what is to begin takes no such parameters.
    """
    ctx.require("pipelines.write")
    if ctx.session.scalars(ctx.query(TriggerRow).where(TriggerRow.name == body.name)).first() is not None:
        raise AlreadyExists(f"There is a trigger '{body.name}' already.")
    owner = owner_of(ctx)
    row = TriggerRow(
        id=new_id("trg"),
        project_id=ctx.project_id,
        target=jsonable(body.target),
        limit=jsonable(body.limit),
        owner=owner.id,
        permissions=owner.permissions,
        position=outbox.newest(ctx.session),
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
        **body.model_dump(exclude={"target", "limit"}),
    )
    _check(ctx, row)
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.pipelines.trigger_created", row.id, name=row.name, events=row.events, hook=row.hook)
    return _open_hook(ctx, row) if row.hook else _created(row, None, None)


def list_triggers(ctx: Context, page: PageQuery) -> Page[Trigger]:
    """List the project's triggers."""
    ctx.require("pipelines.read")
    found = list_rows(ctx, ctx.query(TriggerRow), TriggerRow.id, _FIELDS, page)
    return Page(items=[_trigger(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_trigger(ctx: Context, trigger: str) -> Trigger:
    """Return a trigger, by name or id."""
    ctx.require("pipelines.read")
    return _trigger(_find(ctx, trigger))


def update_trigger(ctx: Context, trigger: str, body: TriggerUpdate) -> Trigger:
    """Change a trigger, or pause it or let it go on. It acts in the caller's name from then on.

    What waits to begin is skipped where it is paused.
    """
    ctx.require("pipelines.write")
    row = _find(ctx, trigger, lock=True)
    ctx.check_revision(row)
    if body.events is not None and row.hook:
        raise InvalidInput(f"The trigger '{row.name}' has a hook, and hears no events.", hint="Make another one.")
    was_paused = row.paused
    changes: dict[str, Any] = {
        name: getattr(body, name)
        for name in body.model_fields_set
        if getattr(body, name) is not None or name in _CLEARABLE
    }
    for name, value in changes.items():
        setattr(row, name, jsonable(value) if name in ("target", "limit") else value)
    owner = owner_of(ctx)
    row.owner, row.permissions = owner.id, owner.permissions
    _check(ctx, row)
    if row.paused:
        skip_waiting(ctx, row.id, "The trigger was paused.")
    elif was_paused:
        row.position = outbox.newest(ctx.session)
    ctx.session.flush()
    ctx.emit("modelops.pipelines.trigger_updated", row.id, name=row.name, paused=row.paused)
    return _trigger(row)


def delete_trigger(ctx: Context, trigger: str) -> None:
    """Remove a trigger. What it began goes on."""
    ctx.require("pipelines.write")
    row = _find(ctx, trigger, lock=True)
    skip_waiting(ctx, row.id, "The trigger was removed.")
    ctx.session.delete(row)
    ctx.emit("modelops.pipelines.trigger_deleted", row.id, name=row.name)


def rotate_trigger_secret(ctx: Context, trigger: str) -> TriggerCreated:
    """Give a hook another path and secret from now on; they are in this answer only.

    Raises:
        Conflict: the trigger has no hook.
    """
    ctx.require("pipelines.write")
    row = _find(ctx, trigger, lock=True)
    ctx.check_revision(row)
    if not row.hook:
        raise Conflict(f"The trigger '{row.name}' hears events, and has no hook.")
    return _open_hook(ctx, row)


def list_trigger_history(ctx: Context, trigger: str, page: PageQuery) -> Page[Beginning]:
    """List what a trigger led to, newest first."""
    ctx.require("pipelines.read")
    return list_beginnings(ctx, _find(ctx, trigger).id, page)


def _check(ctx: Context, row: TriggerRow) -> None:
    check_condition(row.condition)
    check_target(ctx, read_target(row.target), row.mapping)


def _open_hook(ctx: Context, row: TriggerRow) -> TriggerCreated:
    token, secret = secrets.token_urlsafe(24), new_secret()
    row.token_hash, row.sealed_secret = hash_token(token), seal(ctx, row.id, secret)
    ctx.session.flush()
    return _created(row, f"/v1/pipeline-hooks/{token}", secret)


def _created(row: TriggerRow, path: str | None, secret: str | None) -> TriggerCreated:
    return TriggerCreated(**_trigger(row).model_dump(), hook_path=path, secret=secret)


def _trigger(row: TriggerRow) -> Trigger:
    return Trigger.model_validate({name: getattr(row, name) for name in Trigger.model_fields})


def _find(ctx: Context, trigger: str, *, lock: bool = False) -> TriggerRow:
    named = or_(TriggerRow.id == trigger, TriggerRow.name == trigger)
    row = ctx.one(TriggerRow, f"trigger '{trigger[:250]}'", named)
    if lock:
        ctx.session.refresh(row, with_for_update=True)
    return row
