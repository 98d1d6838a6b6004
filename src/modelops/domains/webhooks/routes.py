"""Routes of webhooks."""

from fastapi import Response

from modelops.contracts.schemas import Page
from modelops.domains.webhooks import service
from modelops.domains.webhooks.schemas import Delivery, Webhook, WebhookCreate, WebhookCreated, WebhookUpdate
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router

router = Router("webhooks")


@router.post("/webhooks", status_code=201, response_model=WebhookCreated)
def create_webhook(ctx: Context, body: WebhookCreate) -> Response:
    """Subscribe an address to events of the project; the secret is shown this once."""
    return _secret(service.create_webhook(ctx, body), 201)


@router.get("/webhooks")
def list_webhooks(ctx: Context, page: Listing) -> Page[Webhook]:
    """List the project's webhooks."""
    return service.list_webhooks(ctx, page)


@router.get("/webhooks/{webhook}")
def get_webhook(ctx: Context, webhook: Ref) -> Webhook:
    """Return a webhook."""
    return service.get_webhook(ctx, webhook)


@router.patch("/webhooks/{webhook}")
def update_webhook(ctx: Context, webhook: Ref, body: WebhookUpdate) -> Webhook:
    """Change a webhook, or disable or enable it."""
    return service.update_webhook(ctx, webhook, body)


@router.delete("/webhooks/{webhook}", status_code=204)
def delete_webhook(ctx: Context, webhook: Ref) -> None:
    """Remove a webhook and its deliveries."""
    return service.delete_webhook(ctx, webhook)


@router.post("/webhooks/{webhook}/secret", response_model=WebhookCreated)
def rotate_webhook_secret(ctx: Context, webhook: Ref) -> Response:
    """Sign with a new secret from now on; it is shown this once."""
    return _secret(service.rotate_webhook_secret(ctx, webhook), 200)


@router.post("/webhooks/{webhook}/ping", status_code=202)
def ping_webhook(ctx: Context, webhook: Ref) -> Delivery:
    """Send a message of the type `modelops.webhooks.ping`, to see whether the receiver answers."""
    return service.ping_webhook(ctx, webhook)


@router.get("/webhooks/{webhook}/deliveries")
def list_deliveries(ctx: Context, webhook: Ref, page: Listing) -> Page[Delivery]:
    """List a webhook's deliveries, newest first."""
    return service.list_deliveries(ctx, webhook, page)


@router.post("/webhooks/{webhook}/deliveries/{delivery}/redeliver", status_code=202)
def redeliver(ctx: Context, webhook: Ref, delivery: Ref) -> Delivery:
    """Deliver again, now."""
    return service.redeliver(ctx, webhook, delivery)


def _secret(made: WebhookCreated, status: int) -> Response:
    """Answer with what is shown once; `no-store` keeps it out of the idempotency records, too."""
    headers = {"ETag": f'"{made.revision}"', "Cache-Control": "no-store"}
    return Response(made.model_dump_json(), status, headers, media_type="application/json")
