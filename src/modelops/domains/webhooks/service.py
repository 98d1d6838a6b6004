"""What webhooks do. Context first, one verb a function; the edge commits."""

from typing import Any

from sqlalchemy import delete

from modelops.contracts.errors import Conflict
from modelops.contracts.events import Event
from modelops.contracts.ids import new_id
from modelops.contracts.messages import new_secret
from modelops.contracts.schemas import Page
from modelops.domains.webhooks.mailing import read_mail_server
from modelops.domains.webhooks.rules import check_url, read_recipients
from modelops.domains.webhooks.schemas import (
    Delivery,
    DeliveryState,
    Form,
    Webhook,
    WebhookCreate,
    WebhookCreated,
    WebhookUpdate,
)
from modelops.domains.webhooks.tables import DeliveryRow, WebhookRow
from modelops.kernel import outbox
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows
from modelops.kernel.secrets import SecretBox

PING = "modelops.webhooks.ping"

_FIELDS: dict[str, Any] = {
    "url": WebhookRow.url,
    "form": WebhookRow.form,
    "enabled": WebhookRow.enabled,
    "created_at": WebhookRow.created_at,
    "created_by": WebhookRow.created_by,
}
_DELIVERY_FIELDS: dict[str, Any] = {
    "state": DeliveryRow.state,
    "event_type": DeliveryRow.event_type,
    "event_id": DeliveryRow.event_id,
    "attempts": DeliveryRow.attempts,
    "created_at": DeliveryRow.created_at,
    "finished_at": DeliveryRow.finished_at,
}


def create_webhook(ctx: Context, body: WebhookCreate) -> WebhookCreated:
    """Subscribe an address to events of the project; the secret is in this answer only."""
    ctx.require("webhooks.write")
    _check_receiver(ctx, body.url, body.form)
    webhook_id = new_id("whk")
    secret = new_secret()
    row = WebhookRow(
        id=webhook_id,
        project_id=ctx.project_id,
        url=body.url,
        events=body.events,
        form=body.form,
        description=body.description,
        enabled=True,
        sealed_secret=_seal(ctx, webhook_id, secret),
        position=outbox.newest(ctx.session),
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.webhooks.webhook_created", row.id, events=row.events)
    return _with_secret(row, secret)


def list_webhooks(ctx: Context, page: PageQuery) -> Page[Webhook]:
    """List the project's webhooks."""
    ctx.require("webhooks.read")
    found = list_rows(ctx, ctx.query(WebhookRow), WebhookRow.id, _FIELDS, page)
    return Page(items=[_webhook(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_webhook(ctx: Context, webhook: str) -> Webhook:
    """Return a webhook."""
    ctx.require("webhooks.read")
    return _webhook(_find(ctx, webhook))


def update_webhook(ctx: Context, webhook: str, body: WebhookUpdate) -> Webhook:
    """Change a webhook, or disable or enable it."""
    ctx.require("webhooks.write")
    row = _find(ctx, webhook, lock=True)
    ctx.check_revision(row)
    if body.url is not None:
        _check_receiver(ctx, body.url, Form(row.form))
        row.url = body.url
    if body.events is not None:
        row.events = body.events
    if body.description is not None:
        row.description = body.description
    if body.enabled is not None and body.enabled is not row.enabled:
        _switch(ctx, row, body.enabled)
    return _webhook(row)


def delete_webhook(ctx: Context, webhook: str) -> None:
    """Remove a webhook and its deliveries."""
    ctx.require("webhooks.write")
    row = _find(ctx, webhook, lock=True)
    ctx.session.execute(delete(DeliveryRow).where(DeliveryRow.webhook_id == row.id))
    ctx.session.delete(row)
    ctx.emit("modelops.webhooks.webhook_deleted", row.id)


def rotate_webhook_secret(ctx: Context, webhook: str) -> WebhookCreated:
    """Sign with a new secret from now on; it is in this answer only."""
    ctx.require("webhooks.write")
    row = _find(ctx, webhook, lock=True)
    ctx.check_revision(row)
    secret = new_secret()
    row.sealed_secret = _seal(ctx, row.id, secret)
    return _with_secret(row, secret)


def ping_webhook(ctx: Context, webhook: str) -> Delivery:
    """Send a webhook a message of the type `modelops.webhooks.ping`."""
    ctx.require("webhooks.write")
    row = _find(ctx, webhook)
    _refuse_disabled(row)
    event = Event(
        specversion="1.0",
        id=new_id("evt"),
        source="modelops/webhooks",
        type=PING,
        subject=row.id,
        time=ctx.clock.now(),
        project=row.project_id,
        sequence=None,
        actor=ctx.actor.id,
        data={"by": ctx.actor.id},
    )
    delivery = add_delivery(ctx, row, event)
    ctx.session.flush()
    return _delivery(delivery)


def list_deliveries(ctx: Context, webhook: str, page: PageQuery) -> Page[Delivery]:
    """List a webhook's deliveries, newest first, with what came of each attempt."""
    ctx.require("webhooks.read")
    row = _find(ctx, webhook)
    query = ctx.query(DeliveryRow).where(DeliveryRow.webhook_id == row.id)
    found = list_rows(ctx, query, DeliveryRow.id, _DELIVERY_FIELDS, page, order="desc")
    return Page(items=[_delivery(one) for one in found.rows], next_cursor=found.next_cursor, total=found.total)


def redeliver(ctx: Context, webhook: str, delivery: str) -> Delivery:
    """Deliver again, now and with the whole number of attempts, what was delivered, failed, or waits."""
    ctx.require("webhooks.write")
    row = _find(ctx, webhook)
    _refuse_disabled(row)
    found = ctx.one(
        DeliveryRow, f"delivery '{delivery[:250]}'", DeliveryRow.id == delivery, DeliveryRow.webhook_id == row.id
    )
    ctx.session.refresh(found, with_for_update=True)
    found.state, found.attempts, found.finished_at = DeliveryState.PENDING, 0, None
    found.next_attempt_at = ctx.clock.now()
    return _delivery(found)


def add_delivery(ctx: Context, row: WebhookRow, event: Event) -> DeliveryRow:
    """Put an event on its way to a webhook."""
    delivery = DeliveryRow(
        id=new_id("msg"),
        project_id=row.project_id,
        webhook_id=row.id,
        event_id=event.id,
        event_type=event.type,
        body=event.model_dump_json(),
        state=DeliveryState.PENDING,
        attempts=0,
        history=[],
        next_attempt_at=ctx.clock.now(),
        created_at=ctx.clock.now(),
    )
    ctx.session.add(delivery)
    return delivery


def open_secret(ctx: Context, row: WebhookRow) -> str:
    """Return a webhook's secret, for signing."""
    return ctx.port(SecretBox).open(row.sealed_secret, f"webhook:{row.id}").decode()


def _find(ctx: Context, webhook: str, *, lock: bool = False) -> WebhookRow:
    row = ctx.one(WebhookRow, f"webhook '{webhook[:250]}'", WebhookRow.id == webhook)
    if lock:
        ctx.session.refresh(row, with_for_update=True)
    return row


def _switch(ctx: Context, row: WebhookRow, enabled: bool) -> None:
    row.enabled, row.failing_since = enabled, None
    row.disabled_reason = None if enabled else f"{ctx.actor.name} disabled it."
    if enabled:
        row.position = outbox.newest(ctx.session)


def _refuse_disabled(row: WebhookRow) -> None:
    if not row.enabled:
        raise Conflict(
            f"The webhook is disabled: {row.disabled_reason}", hint=f"mops webhooks update-webhook {row.id} --enable"
        )


def _check_receiver(ctx: Context, url: str, form: Form) -> None:
    if form is not Form.EMAIL:
        check_url(url, ctx.settings.webhook_networks)
        return
    read_recipients(url)
    read_mail_server(ctx.settings)


def _seal(ctx: Context, webhook_id: str, secret: str) -> str:
    return ctx.port(SecretBox).seal(secret.encode(), f"webhook:{webhook_id}")


def _webhook(row: WebhookRow) -> Webhook:
    return Webhook.model_validate(row, from_attributes=True)


def _with_secret(row: WebhookRow, secret: str) -> WebhookCreated:
    return WebhookCreated(**_webhook(row).model_dump(), secret=secret)


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery.model_validate(row, from_attributes=True)
