"""How events reach receivers: `Intake` turns the project's stream into deliveries, `Courier` sends what is due.

An intake's step writes the deliveries of some events and the place up to which it read them in one transaction, so each
event becomes one delivery, whatever is killed when. A delivery is sent at least once: the courier may be killed between
a receiver's answer and its own note of it, and receivers tell a message that comes twice by its `webhook-id`.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select

from modelops.contracts.events import Event, matches
from modelops.contracts.messages import sign
from modelops.contracts.settings import Settings
from modelops.domains.webhooks.mailing import mail
from modelops.domains.webhooks.rules import MAX_ATTEMPTS, Network, pause_s
from modelops.domains.webhooks.schemas import DeliveryState, Form
from modelops.domains.webhooks.sending import Reply, send
from modelops.domains.webhooks.service import add_delivery, open_secret
from modelops.domains.webhooks.tables import DeliveryRow, WebhookRow
from modelops.domains.webhooks.wording import slack_message
from modelops.kernel import outbox
from modelops.kernel.context import Context

_EVENTS_A_STEP = 500
_SKIP_FROM = 200
_AT_ONCE, _AT_ONCE_EACH = 32, 4
_HISTORY = 20
_GONE = 410
_FORGET_EVERY_S = 300.0


@dataclass(frozen=True)
class _Read:
    """Events of a stream: those asked for, and the places between which they were found."""

    after: int
    until: int
    events: tuple[Event, ...]


class Intake:
    """Puts each event of the stream on its way to the webhooks that asked for its type."""

    name = "webhooks.intake"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the webhooks that have not seen the newest event."""
        query = select(WebhookRow.id).where(WebhookRow.enabled, WebhookRow.position < outbox.newest(ctx.session))
        return list(ctx.session.scalars(query))

    def load(self, ctx: Context, key: str) -> _Read | None:
        """Return what happened since; nothing where that is little and nobody asked for it."""
        row = ctx.session.get(WebhookRow, key)
        if row is None or not row.enabled:
            return None
        seen = outbox.stream(ctx.session, row.project_id, row.position, _EVENTS_A_STEP)
        wanted = tuple(event for event in seen if matches(row.events, event.type))
        if not wanted and len(seen) < _SKIP_FROM:
            return None
        return _Read(row.position, seen[-1].sequence or row.position, wanted)

    def act(self, ports: Mapping[type, Any], state: _Read) -> _Read:
        """There is nothing to do in the world."""
        return state

    def apply(self, ctx: Context, key: str, seen: _Read) -> None:
        """Write the deliveries, and how far the stream was read."""
        row = ctx.session.get(WebhookRow, key, with_for_update=True, populate_existing=True)
        if row is None or not row.enabled or row.position != seen.after:
            return
        for event in seen.events:
            add_delivery(ctx, row, event)
        row.position = seen.until


@dataclass(frozen=True)
class _Message:
    """A delivery as it is sent."""

    delivery: str
    form: Form
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class _Bag:
    """Messages that are due, and the networks beside the public ones that they may go to."""

    at: datetime
    messages: tuple[_Message, ...]
    allowed: tuple[Network, ...]
    settings: Settings


class Courier:
    """Sends what is due, many at once, so that a slow receiver keeps few others waiting."""

    name = "webhooks.courier"

    def __init__(self) -> None:
        self._forgot_at = float("-inf")

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return one key if something is due, and one every few minutes to forget what is old."""
        keys = ["due"] if _due(ctx, 1) else []
        if ctx.clock.monotonic() - self._forgot_at >= _FORGET_EVERY_S:
            self._forgot_at = ctx.clock.monotonic()
            keys.append("old")
        return keys

    def load(self, ctx: Context, key: str) -> _Bag | None:
        """Return what to send: the longest due first, of each webhook a few."""
        now = ctx.clock.now()
        if key == "old":
            return _Bag(now, (), (), ctx.settings)
        counted = Counter[str]()
        messages: list[_Message] = []
        for delivery, webhook in _due(ctx, _EVENTS_A_STEP):
            counted[webhook.id] += 1
            if counted[webhook.id] <= _AT_ONCE_EACH and len(messages) < _AT_ONCE:
                messages.append(_message(ctx, delivery, webhook, now))
        networks = tuple(ctx.settings.webhook_networks)
        return _Bag(now, tuple(messages), networks, ctx.settings) if messages else None

    def act(self, ports: Mapping[type, Any], state: _Bag) -> dict[str, Reply]:
        """Send, and return what came of each."""
        if not state.messages:
            return {}

        def post(message: _Message) -> Reply:
            if message.form is Form.EMAIL:
                return mail(state.settings, message.url, message.delivery, message.body)
            return send(message.url, message.headers, message.body, state.allowed)

        with ThreadPoolExecutor(len(state.messages), thread_name_prefix="webhook") as pool:
            replies = list(pool.map(post, state.messages))
        return {message.delivery: reply for message, reply in zip(state.messages, replies, strict=True)}

    def apply(self, ctx: Context, key: str, seen: dict[str, Reply]) -> None:
        """Write down what came of each; of what is old, forget it."""
        if key == "old":
            before = ctx.clock.now() - timedelta(seconds=ctx.settings.event_retention_s)
            ctx.session.execute(delete(DeliveryRow).where(DeliveryRow.finished_at < before))
        for delivery_id, reply in seen.items():
            _settle(ctx, delivery_id, reply)


def _message(ctx: Context, delivery: DeliveryRow, webhook: WebhookRow, now: datetime) -> _Message:
    """Return a delivery in the form that its webhook wants. An e-mail is written when it is sent."""
    form, body = Form(webhook.form), delivery.body.encode()
    headers = {"Content-Type": "application/cloudevents+json"}
    if form is Form.SLACK:
        headers, body = {"Content-Type": "application/json"}, slack_message(Event.model_validate_json(body))
    signed = sign(open_secret(ctx, webhook), delivery.id, int(now.timestamp()), body)
    return _Message(delivery.id, form, webhook.url, {**headers, **signed}, body)


def _due(ctx: Context, limit: int) -> list[tuple[DeliveryRow, WebhookRow]]:
    query = (
        select(DeliveryRow, WebhookRow)
        .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
        .where(DeliveryRow.state == DeliveryState.PENDING, DeliveryRow.next_attempt_at <= ctx.clock.now())
        .where(WebhookRow.enabled)
        .order_by(DeliveryRow.next_attempt_at, DeliveryRow.id)
        .limit(limit)
    )
    return [(delivery, webhook) for delivery, webhook in ctx.session.execute(query)]


def _settle(ctx: Context, delivery_id: str, reply: Reply) -> None:
    """Write down what came of an attempt, unless the delivery or its webhook is gone, or another settled it."""
    row = ctx.session.get(DeliveryRow, delivery_id)
    webhook = ctx.session.get(WebhookRow, row.webhook_id, with_for_update=True, populate_existing=True) if row else None
    if row is None or webhook is None:
        return
    ctx.session.refresh(row, with_for_update=True)
    if row.state != DeliveryState.PENDING:
        return
    now = ctx.clock.now()
    attempt = {"at": now.isoformat(), "status": reply.status, "error": reply.error, "duration_ms": reply.duration_ms}
    row.attempts += 1
    row.history = [*row.history, attempt][-_HISTORY:]
    if reply.error is None:
        row.state, row.finished_at, row.next_attempt_at = DeliveryState.DELIVERED, now, None
        webhook.failing_since = None
        return
    if row.attempts >= MAX_ATTEMPTS:
        row.state, row.finished_at, row.next_attempt_at = DeliveryState.FAILED, now, None
    else:
        luck = random.random()  # noqa: S311 - jitter, not a secret
        row.next_attempt_at = now + timedelta(seconds=pause_s(row.attempts, luck, reply.retry_after_s))
    _blame(ctx, webhook, reply, now)


def _blame(ctx: Context, webhook: WebhookRow, reply: Reply, now: datetime) -> None:
    """Note that a webhook fails, and disable it once that has lasted for too long, or the receiver says it is gone."""
    webhook.failing_since = webhook.failing_since or now
    lasted = (now - webhook.failing_since).total_seconds()
    if reply.status == _GONE:
        why = "The receiver answered 410: it is gone."
    elif lasted >= ctx.settings.webhook_give_up_s:
        why = f"It failed for {lasted / 3600:.0f} hours. The last time: {reply.error}"
    else:
        return
    if webhook.enabled:
        webhook.enabled, webhook.disabled_reason = False, why
        webhook.touch()
        ctx.within(webhook.project_id).emit("modelops.webhooks.webhook_disabled", webhook.id, reason=why)
