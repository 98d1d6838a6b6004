"""Events told to people: by e-mail, over real SMTP, and to Slack's incoming webhooks."""

import json

import pytest
from tests.domains.webhooks.mailbox import Mailbox
from tests.domains.webhooks.receiver import Receiver

from modelops.contracts.errors import InvalidInput
from modelops.contracts.settings import load_settings
from modelops.domains.webhooks.mailing import read_mail_server
from modelops.domains.webhooks.rules import WebhookRefused, read_recipients
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform


@pytest.fixture
def mailbox():
    made = Mailbox()
    yield made
    made.close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def clock():
    return VirtualClock()


def turn(platform):
    for _ in range(3):
        platform.controller.turn()


def test_an_event_is_told_by_mail_once_and_tried_again_where_the_server_refuses(tmp_path, mailbox, clock):
    with running_platform(tmp_path, clock=clock, smtp_url=mailbox.url, smtp_from="platform@example.org") as platform:
        client = platform.client()
        mailbox.refuse = "451 later"
        made = client.webhooks.create_webhook(
            "mailto:team@example.org,boss%2Bml@example.org", ["modelops.models.*"], form="email"
        )
        client.models.create_model("fraud")
        turn(platform)
        assert mailbox.got == []
        (waiting,) = client.webhooks.list_deliveries(made.id).items
        assert "451" in waiting.history[0].error
        mailbox.refuse = None
        clock.advance(3600)
        turn(platform)
        ((sender, recipients, message),) = mailbox.got
        assert (sender, recipients) == ("platform@example.org", ["team@example.org", "boss+ml@example.org"])
        assert message["Subject"] == "Models: model created: fraud"
        assert message["Message-ID"] == f"<{waiting.id}@modelops>"
        assert "name: fraud" in message.get_content()
        assert client.webhooks.list_deliveries(made.id).items[0].state == "delivered"


def test_an_event_is_told_to_slack_as_text_that_commands_nothing(tmp_path, receiver, clock):
    with running_platform(tmp_path, clock=clock, webhook_networks=["127.0.0.0/8"]) as platform:
        client = platform.client()
        client.webhooks.create_webhook(receiver.url, ["modelops.experiments.*"], form="slack")
        client.experiments.create_experiment("trials")
        run = client.experiments.create_run("trials", name="try")
        client.experiments.update_run(run.id, status="failed", reason="<!channel> & more")
        turn(platform)
        bodies = [json.loads(body) for _, _, body in receiver.got]
        assert all(set(body) == {"text"} for body in bodies)
        told = next(body["text"] for body in bodies if "run ended" in body["text"])
        assert told.startswith("*Experiments: run ended: try*\n")
        assert "reason: &lt;!channel&gt; &amp; more" in told
        assert {headers["Content-Type"] for _, headers, _ in receiver.got} == {"application/json"}


def test_mail_without_a_server_and_addresses_that_are_none_are_refused(tmp_path, mailbox):
    with running_platform(tmp_path / "without") as platform:
        with pytest.raises(InvalidInput, match="No server is named"):
            platform.client().webhooks.create_webhook("mailto:a@example.org", ["*"], form="email")
    with running_platform(tmp_path / "with", smtp_url=mailbox.url) as platform:
        webhooks = platform.client().webhooks
        for url, form in [
            ("https://example.org", "email"),
            ("mailto:a@example.org", "slack"),
            ("mailto:nobody", "email"),
        ]:
            with pytest.raises(WebhookRefused):
                webhooks.create_webhook(url, ["*"], form=form)


@pytest.mark.parametrize(
    "url", ["mailto:", "mailto:a@b,", "mailto:a%0Ab@c.org", "mailto:a@c.org?bcc=x@y.org", "mailto:@x"]
)
def test_what_is_no_recipient_is_refused(url):
    with pytest.raises(WebhookRefused):
        read_recipients(url)


def test_a_server_is_read_from_its_address():
    found = read_mail_server(load_settings(smtp_url="smtps://me%40x:p%3Aw@mail.example.org", smtp_from="a@b.org"))
    assert (found.host, found.port, found.sealed, found.user, found.password) == (
        "mail.example.org", 465, True, "me@x", "p:w",
    )  # fmt: skip
    for wrong in ("http://x", "smtp://", "smtp://host:port"):
        with pytest.raises(InvalidInput):
            read_mail_server(load_settings(smtp_url=wrong))
