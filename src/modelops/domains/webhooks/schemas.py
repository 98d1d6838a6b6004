"""Payloads of webhooks."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.events import Patterns
from modelops.contracts.schemas import Schema, Text, UtcTime

Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2_000,
        pattern=r"^(https?://|mailto:)[!-~]+$",
        description="Where to post; with the form `email`, `mailto:team@example.org`.",
    ),
]


class Form(StrEnum):
    """How events are told: as signed CloudEvents, as Slack's incoming webhooks take them, or by e-mail."""

    CLOUDEVENTS = "cloudevents"
    SLACK = "slack"
    EMAIL = "email"


class WebhookCreate(Schema):
    """A new subscription to the project's events, from now on."""

    url: Url
    events: Patterns
    form: Form = Form.CLOUDEVENTS
    description: Text = ""


class WebhookUpdate(Schema):
    """What may change on a webhook; a field left out stays. Enabled again, it goes on with what happens from then on."""

    url: Url | None = None
    events: Patterns | None = None
    description: Text | None = None
    enabled: bool | None = None


class Webhook(Schema):
    """A subscription. `failing_since` is when the first of the failures began that no success has ended yet."""

    id: str
    project_id: str
    url: str
    events: list[str]
    form: Form
    description: str
    enabled: bool
    disabled_reason: str | None
    failing_since: UtcTime | None
    created_at: UtcTime
    created_by: str
    revision: int


class WebhookCreated(Webhook):
    """A webhook with its secret, `whsec_…`, which is shown this once."""

    secret: str


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Attempt(Schema):
    """One try to deliver. `status` is what the receiver answered, `error` why it is no success."""

    at: UtcTime
    status: int | None
    error: str | None
    duration_ms: float


class Delivery(Schema):
    """An event on its way to a webhook. `id` is its `webhook-id`, the same at each attempt; `history` has the newest
    attempts last, and `body` is the event, as it is posted in the form `cloudevents`."""

    id: str
    webhook_id: str
    event_id: str
    event_type: str
    state: DeliveryState
    attempts: int
    history: list[Attempt]
    next_attempt_at: UtcTime | None
    created_at: UtcTime
    finished_at: UtcTime | None
    body: str
