"""Webhooks from subscription to receiver, on both databases and over a real socket."""

import json
import socket
import ssl
import subprocess
import threading
from ipaddress import ip_network

import pytest
from sqlalchemy import select
from tests.domains.webhooks.receiver import Receiver

from modelops.contracts.errors import Conflict, NotFound, PermissionDenied
from modelops.contracts.messages import verify_webhook
from modelops.domains.webhooks import sending
from modelops.domains.webhooks.reconcilers import Courier
from modelops.domains.webhooks.rules import MAX_ATTEMPTS, WebhookRefused
from modelops.domains.webhooks.tables import WebhookRow
from modelops.kernel.tables import EventRow, IdempotencyRow
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

LOCAL = ["127.0.0.0/8"]


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture(params=["sqlite", "postgres"])
def hooked(request, tmp_path, clock):
    settings = {"webhook_networks": LOCAL}
    if request.param == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    with running_platform(tmp_path / "home", clock=clock, **settings) as platform:
        yield platform


@pytest.fixture
def local(tmp_path, clock):
    with running_platform(tmp_path / "home", clock=clock, webhook_networks=LOCAL) as platform:
        yield platform


def states(client, webhook):
    return [delivery.state for delivery in client.webhooks.list_deliveries(webhook).items]


def test_an_event_reaches_who_asked_for_it_signed_and_once(hooked, receiver, clock):
    client = hooked.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.models.*"])
    client.models.create_model("fraud")
    client.data.create_dataset("numbers")
    for _ in range(3):
        hooked.controller.turn()
    ((path, headers, body),) = receiver.got
    assert path == "/hook"
    verify_webhook(headers, body, made.secret, now=clock.now().timestamp())
    event = json.loads(body)
    assert (event["type"], event["data"]["name"]) == ("modelops.models.model_created", "fraud")
    (delivery,) = client.webhooks.list_deliveries(made.id).items
    assert (delivery.id, delivery.state, delivery.attempts) == (headers["webhook-id"], "delivered", 1)
    assert delivery.history[0].status == 204
    assert delivery.body.encode() == body


def test_what_was_before_a_webhook_and_while_it_was_disabled_is_not_told(local, receiver):
    client = local.client()
    client.models.create_model("before")
    local.controller.turn()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.models.model_created"])
    client.webhooks.update_webhook(made.id, enabled=False)
    client.models.create_model("meanwhile")
    local.controller.turn()
    client.webhooks.update_webhook(made.id, enabled=True)
    client.models.create_model("after")
    for _ in range(2):
        local.controller.turn()
    assert [json.loads(body)["data"]["name"] for _, _, body in receiver.got] == ["after"]


def test_a_failure_is_tried_again_later_under_the_same_id(hooked, receiver, clock):
    client = hooked.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.models.*"])
    receiver.answers = [500, (503, {"Retry-After": "1800"})]
    client.models.create_model("fraud")
    for _ in range(3):
        hooked.controller.turn()
    assert len(receiver.got) == 1
    (waiting,) = client.webhooks.list_deliveries(made.id).items
    assert waiting.state == "pending"
    assert "500" in waiting.history[0].error
    assert client.webhooks.get_webhook(made.id).failing_since == clock.now()
    clock.advance(10)
    hooked.controller.turn()
    assert len(receiver.got) == 2
    clock.advance(1700)
    hooked.controller.turn()
    assert len(receiver.got) == 2
    clock.advance(101)
    hooked.controller.turn()
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 1
    assert states(client, made.id) == ["delivered"]
    assert client.webhooks.get_webhook(made.id).failing_since is None


def test_a_delivery_is_given_up_and_can_be_sent_again(local, receiver, clock):
    client = local.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.models.*"])
    receiver.answers = [500] * MAX_ATTEMPTS
    client.models.create_model("fraud")
    for _ in range(MAX_ATTEMPTS + 2):
        local.controller.turn()
        clock.advance(9 * 3600 + 1)
        if not client.webhooks.get_webhook(made.id).enabled:  # five days of failures disable it in between
            client.webhooks.update_webhook(made.id, enabled=True)
    (failed,) = client.webhooks.list_deliveries(made.id).items
    assert (failed.state, failed.attempts) == ("failed", MAX_ATTEMPTS)
    again = client.webhooks.redeliver(made.id, failed.id)
    assert (again.state, again.attempts) == ("pending", 0)
    local.controller.turn()
    (delivered,) = client.webhooks.list_deliveries(made.id).items
    assert delivered.state == "delivered"
    assert len(delivered.history) == MAX_ATTEMPTS + 1


def test_a_webhook_that_fails_for_days_is_disabled_and_says_why(local, receiver, clock):
    client = local.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.models.*"])
    receiver.answers = [500] * 99
    client.models.create_model("fraud")
    for _ in range(30):
        local.controller.turn()
        clock.advance(6 * 3600)
        client.models.create_model(f"m{clock.now().timestamp():.0f}")
    found = client.webhooks.get_webhook(made.id)
    assert not found.enabled
    assert "failed for" in found.disabled_reason
    with pytest.raises(Conflict, match="disabled"):
        client.webhooks.ping_webhook(made.id)
    with local.place.work(write=False) as ctx:
        kinds = set(ctx.session.scalars(select(EventRow.type)))
    assert "modelops.webhooks.webhook_disabled" in kinds


def test_a_receiver_that_is_gone_is_not_asked_again(local, receiver):
    client = local.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.models.*"])
    receiver.answers = [410]
    client.models.create_model("fraud")
    for _ in range(2):
        local.controller.turn()
    assert "410" in client.webhooks.get_webhook(made.id).disabled_reason


def test_a_redirect_is_not_followed(local, receiver):
    client = local.client()
    made = client.webhooks.create_webhook(receiver.url, ["*"])
    receiver.answers = [(302, {"Location": receiver.url.replace("hook", "elsewhere")})] * 9
    client.webhooks.ping_webhook(made.id)
    local.controller.turn()
    assert {path for path, _, _ in receiver.got} == {"/hook"}
    ping = next(one for one in client.webhooks.list_deliveries(made.id).items if one.event_type.endswith("ping"))
    assert ping.history[0].error == "Redirects are not followed."


def test_a_slow_receiver_does_not_hold_up_the_others(local, receiver, monkeypatch):
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.5)
    slow = Receiver()
    slow.hold = threading.Event()
    try:
        client = local.client()
        held = client.webhooks.create_webhook(slow.url, ["modelops.models.*"])
        quick = client.webhooks.create_webhook(receiver.url, ["modelops.models.*"])
        client.models.create_model("fraud")
        for _ in range(2):
            local.controller.turn()
        assert states(client, quick.id) == ["delivered"]
        (waiting,) = client.webhooks.list_deliveries(held.id).items
        assert "did not answer" in waiting.history[0].error
    finally:
        slow.hold.set()
        slow.close()


def test_a_receiver_that_drips_bytes_is_left_in_time(monkeypatch):
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.4)
    server = socket.create_server(("127.0.0.1", 0))
    end = threading.Event()

    def drip():
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not end.wait(0.05):
                try:
                    connection.sendall(b"a")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        reply = sending.send(url, {}, b"{}", [ip_network("127.0.0.0/8")])
    finally:
        end.set()
        thread.join()
        server.close()
    assert reply.status is None
    assert "did not answer" in reply.error


def test_a_name_that_leads_inside_is_refused_when_it_is_looked_up(sqlite_platform, receiver, monkeypatch):
    client = sqlite_platform.client()
    made = client.webhooks.create_webhook(f"http://hooks.example.org:{receiver.port}/hook", ["*"])
    inside = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, receiver.port)) for address in ("8.8.8.8", "127.0.0.1")
    ]
    monkeypatch.setattr(sending.socket, "getaddrinfo", lambda *_, **__: inside)
    client.webhooks.ping_webhook(made.id)
    sqlite_platform.controller.turn()
    (ping,) = [one for one in client.webhooks.list_deliveries(made.id).items if one.event_type.endswith("ping")]
    assert "127.0.0.1 is not of the public internet" in ping.history[0].error
    assert receiver.got == []


def test_the_address_that_was_checked_is_the_one_connected_to(local, receiver, monkeypatch):
    asked = []

    def look_up(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    client = local.client()
    made = client.webhooks.create_webhook(f"http://hooks.example.org:{receiver.port}/hook", ["modelops.models.*"])
    client.webhooks.ping_webhook(made.id)
    real = socket.getaddrinfo
    monkeypatch.setattr(
        sending.socket,
        "getaddrinfo",
        lambda host, *a, **k: look_up(host, *a, **k) if "example" in host else real(host, *a, **k),
    )
    local.controller.turn()
    assert asked == ["hooks.example.org"]
    ((_, headers, _),) = receiver.got
    assert headers["Host"] == f"hooks.example.org:{receiver.port}"


def test_over_tls_the_certificate_is_of_the_name(tmp_path, monkeypatch):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hooks.example.org",
         "-addext", "subjectAltName=DNS:hooks.example.org", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    monkeypatch.setattr(sending, "_trust", lambda: trust)
    receiver = Receiver(tls=server)
    try:
        real = socket.getaddrinfo
        monkeypatch.setattr(sending.socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1", *a, **k))
        allowed = [ip_network("127.0.0.0/8")]
        good = sending.send(f"https://hooks.example.org:{receiver.port}/", {}, b"{}", allowed)
        wrong = sending.send(f"https://other.example.org:{receiver.port}/", {}, b"{}", allowed)
    finally:
        receiver.close()
    assert good.status == 204
    assert wrong.status is None
    assert "certificate" in wrong.error.lower()


def test_a_closed_port_is_a_failure_and_no_crash(local):
    client = local.client()
    made = client.webhooks.create_webhook("http://127.0.0.1:1/", ["*"])
    client.webhooks.ping_webhook(made.id)
    local.controller.turn()
    assert "ConnectError" in client.webhooks.list_deliveries(made.id).items[-1].history[0].error


def test_private_addresses_are_refused_unless_a_setting_names_them(sqlite_platform):
    with pytest.raises(WebhookRefused, match="not of the public internet") as refused:
        sqlite_platform.client().webhooks.create_webhook("http://169.254.169.254/latest", ["*"])
    assert "MODELOPS_WEBHOOK_NETWORKS" in refused.value.hint


def test_the_secret_is_shown_once_and_kept_sealed(local, receiver, clock):
    client = local.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.webhooks.ping"])
    assert "secret" not in client.webhooks.get_webhook(made.id).model_dump()
    with local.place.work(write=False) as ctx:
        assert made.secret not in ctx.session.scalars(select(WebhookRow.sealed_secret)).one()
        assert not any("whsec" in (body or "") for body in ctx.session.scalars(select(IdempotencyRow.body)))
    fresh = client.webhooks.rotate_webhook_secret(made.id)
    assert fresh.secret != made.secret
    client.webhooks.ping_webhook(made.id)
    local.controller.turn()
    ((_, headers, body),) = receiver.got
    verify_webhook(headers, body, fresh.secret, now=clock.now().timestamp())


def test_one_project_hears_nothing_of_another(local, receiver):
    client = local.client()
    client.identity.create_project("other")
    client.webhooks.create_webhook(receiver.url, ["modelops.models.*"])
    local.client(project="other").models.create_model("secret")
    for _ in range(2):
        local.controller.turn()
    assert receiver.got == []


def test_many_events_of_no_interest_are_skipped_for_good(local, receiver):
    client = local.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.data.*"])
    with local.place.work() as ctx:
        project = client.webhooks.get_webhook(made.id).project_id
        for number in range(700):
            ctx.within(project).emit("modelops.test.noise", f"s{number}")
    for _ in range(3):
        local.controller.turn()
    with local.place.work(write=False) as ctx:
        assert ctx.session.get(WebhookRow, made.id).position > 600
    client.data.create_dataset("numbers")
    for _ in range(2):
        local.controller.turn()
    assert [json.loads(body)["type"] for _, _, body in receiver.got] == ["modelops.data.dataset_created"]


def test_old_deliveries_are_forgotten(local, receiver, clock):
    client = local.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.webhooks.ping"])
    client.webhooks.ping_webhook(made.id)
    local.controller.turn()
    assert len(states(client, made.id)) == 1
    clock.advance(31 * 86_400)
    local.controller.turn()
    assert states(client, made.id) == []


def test_only_administrators_subscribe_and_no_stranger_looks(local, receiver):
    made = local.client().webhooks.create_webhook(receiver.url, ["*"], description="chat")
    engineer = local.member("ml_engineer")
    assert engineer.webhooks.get_webhook(made.id).description == "chat"
    assert engineer.webhooks.list_webhooks().total == 1
    with pytest.raises(PermissionDenied):
        engineer.webhooks.create_webhook(receiver.url, ["*"])
    with pytest.raises(PermissionDenied):
        local.member("data_scientist").webhooks.list_deliveries(made.id)
    with pytest.raises(NotFound):
        local.stranger().webhooks.get_webhook(made.id)


def test_a_webhook_is_changed_and_removed_with_its_deliveries(hooked, receiver):
    client = hooked.client()
    made = client.webhooks.create_webhook("http://127.0.0.1:1/", ["*"])
    client.webhooks.ping_webhook(made.id)
    changed = client.webhooks.update_webhook(made.id, url=receiver.url, events=["modelops.webhooks.ping"])
    assert (changed.url, changed.revision) == (receiver.url, 2)
    hooked.controller.turn()
    assert len(receiver.got) == 1
    client.webhooks.delete_webhook(made.id)
    with pytest.raises(NotFound):
        client.webhooks.list_deliveries(made.id)


def test_a_delivery_that_another_courier_settled_is_left_alone(local, receiver):
    client = local.client()
    made = client.webhooks.create_webhook(receiver.url, ["modelops.webhooks.ping"])
    client.webhooks.ping_webhook(made.id)
    courier = Courier()
    with local.place.work(write=False) as ctx:
        bag = courier.load(ctx, "due")
    seen = courier.act({}, bag)
    for _ in range(2):
        with local.place.work() as ctx:
            courier.apply(ctx, "due", seen)
    (delivery,) = client.webhooks.list_deliveries(made.id).items
    assert delivery.attempts == 1
