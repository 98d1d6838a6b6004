"""The client of webhooks."""

from collections.abc import Sequence
from typing import Any

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.webhooks.rules import WebhookRefused
from modelops.domains.webhooks.schemas import Delivery, Form, Webhook, WebhookCreate, WebhookCreated, WebhookUpdate

# The error too, so that a client far away can raise it.
__all__ = ["WebhookRefused", "Webhooks"]


class Webhooks(Group):
    """Subscriptions of addresses to the project's events. Listings take `limit`, `cursor`, `filter` and `order_by`."""

    def create_webhook(
        self, url: str, events: Sequence[str], *, form: Form | str = Form.CLOUDEVENTS, description: str = ""
    ) -> WebhookCreated:
        """Subscribe an address to event types (`modelops.models.*`); the secret is in this answer only.

        With the form `slack` the address is that of an incoming webhook, with `email` it is `mailto:team@example.org`.

        Raises:
            WebhookRefused: the address is none that a webhook may reach.
        """
        body = WebhookCreate(url=url, events=list(events), form=Form(form), description=description)
        return self._post(WebhookCreated, "/webhooks", body)

    def list_webhooks(self, **page: Any) -> Page[Webhook]:
        """List the project's webhooks."""
        return self._list(Webhook, "/webhooks", **page)

    def get_webhook(self, webhook: str) -> Webhook:
        """Return a webhook."""
        return self._get(Webhook, f"/webhooks/{webhook}")

    def update_webhook(
        self,
        webhook: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
        revision: int | None = None,
    ) -> Webhook:
        """Change a webhook, or disable or enable it; with `revision`, only while it is still at that one."""
        asked = None if events is None else list(events)
        body = WebhookUpdate(url=url, events=asked, description=description, enabled=enabled)
        return self._patch(Webhook, f"/webhooks/{webhook}", body, revision)

    def delete_webhook(self, webhook: str) -> None:
        """Remove a webhook and its deliveries."""
        self._delete(f"/webhooks/{webhook}")

    def rotate_webhook_secret(self, webhook: str) -> WebhookCreated:
        """Sign with a new secret from now on; it is in this answer only."""
        return self._post(WebhookCreated, f"/webhooks/{webhook}/secret")

    def ping_webhook(self, webhook: str) -> Delivery:
        """Send a message of the type `modelops.webhooks.ping`."""
        return self._post(Delivery, f"/webhooks/{webhook}/ping")

    def list_deliveries(self, webhook: str, **page: Any) -> Page[Delivery]:
        """List a webhook's deliveries, newest first, with what came of each attempt."""
        return self._list(Delivery, f"/webhooks/{webhook}/deliveries", **page)

    def redeliver(self, webhook: str, delivery: str) -> Delivery:
        """Deliver again, now and with the whole number of attempts."""
        return self._post(Delivery, f"/webhooks/{webhook}/deliveries/{delivery}/redeliver")
