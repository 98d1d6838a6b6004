"""Webhooks: a project's events, told to addresses that you name."""

from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, say, show, show_page
from modelops.domains.webhooks.client import Webhooks
from modelops.domains.webhooks.schemas import Form

app = typer.Typer(help="Webhooks: a project's events, told to addresses that you name.", no_args_is_help=True)

WebhookArg = Annotated[str, typer.Argument(help="A webhook's id, whk_….")]
UrlArg = Annotated[str, typer.Argument(help="Where to post, https://…; or mailto:team@example.org, with --form email.")]
EventOption = Annotated[
    list[str] | None, typer.Option("--event", help="An event type, such as modelops.models.*; repeat it.")
]


@app.command()
def create_webhook(
    ctx: typer.Context,
    url: UrlArg,
    event: EventOption = None,
    form: Annotated[Form, typer.Option(help="How events are told.")] = Form.CLOUDEVENTS,
    description: str = "",
    as_json: AsJson = False,
) -> None:
    """Subscribe an address to events, by default to all; the secret is shown this once."""
    show(group(ctx, Webhooks).create_webhook(url, event or ["*"], form=form, description=description), as_json=as_json)


@app.command()
@paged
def list_webhooks(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's webhooks."""
    columns = ["id", "url", "events", "form", "enabled", "failing_since", "disabled_reason"]
    show_page(group(ctx, Webhooks).list_webhooks(**page), columns, as_json=as_json)


@app.command()
def get_webhook(ctx: typer.Context, webhook: WebhookArg, as_json: AsJson = False) -> None:
    """Show a webhook."""
    show(group(ctx, Webhooks).get_webhook(webhook), as_json=as_json)


@app.command()
def update_webhook(
    ctx: typer.Context,
    webhook: WebhookArg,
    url: Annotated[str | None, typer.Option(help="Where to post from now on.")] = None,
    event: EventOption = None,
    description: str | None = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Whether it is sent anything.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a webhook, or disable or enable it."""
    changed = group(ctx, Webhooks).update_webhook(
        webhook, url=url, events=event or None, description=description, enabled=enabled
    )
    show(changed, as_json=as_json)


@app.command()
def delete_webhook(ctx: typer.Context, webhook: WebhookArg) -> None:
    """Remove a webhook and its deliveries."""
    group(ctx, Webhooks).delete_webhook(webhook)
    say(f"{webhook} is gone.")


@app.command()
def rotate_webhook_secret(ctx: typer.Context, webhook: WebhookArg, as_json: AsJson = False) -> None:
    """Sign with a new secret from now on; it is shown this once."""
    show(group(ctx, Webhooks).rotate_webhook_secret(webhook), as_json=as_json)


@app.command()
def ping_webhook(ctx: typer.Context, webhook: WebhookArg, as_json: AsJson = False) -> None:
    """Send a message, to see whether the receiver answers."""
    sent = group(ctx, Webhooks).ping_webhook(webhook)
    hint = f"On its way. What comes of it: mops webhooks list-deliveries {webhook} --limit 1"
    show(sent, as_json=True) if as_json else say(hint)


@app.command()
@paged
def list_deliveries(ctx: typer.Context, webhook: WebhookArg, page: Any, as_json: AsJson = False) -> None:
    """List a webhook's deliveries, newest first."""
    found = group(ctx, Webhooks).list_deliveries(webhook, **page)
    columns = ["id", "event_type", "state", "attempts", "history", "next_attempt_at", "created_at"]
    show_page(found, columns, as_json=as_json)


@app.command()
def redeliver(
    ctx: typer.Context,
    webhook: WebhookArg,
    delivery: Annotated[str, typer.Argument(help="A delivery's id, msg_….")],
    as_json: AsJson = False,
) -> None:
    """Deliver again, now."""
    show(group(ctx, Webhooks).redeliver(webhook, delivery), as_json=as_json)
