"""Whom webhooks reach, how messages are signed, and when they are tried again."""

import fnmatch
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput, SignatureInvalid
from modelops.contracts.events import matches
from modelops.contracts.messages import sign, verify_webhook
from modelops.domains.webhooks.rules import (
    WebhookRefused,
    check_address,
    check_url,
    pause_s,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_signature_is_the_one_that_the_standard_gives_as_its_example():
    # The vector in the libraries of Standard Webhooks: the same id, time, payload and secret give this signature.
    headers = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 2**33))
def test_only_the_body_that_was_signed_verifies(body, other, moment):
    headers = {name.upper(): value for name, value in sign(SECRET, "msg_1", moment, body).items()}
    verify_webhook(headers, body, SECRET, now=moment)
    if other != body:
        with pytest.raises(SignatureInvalid, match="does not fit"):
            verify_webhook(headers, other, SECRET, now=moment)


@pytest.mark.parametrize(
    ("change", "now", "said"),
    [
        ({}, 1301, "too old"),
        ({}, 699, "too old"),
        ({"webhook-timestamp": "1001"}, 1000, "does not fit"),
        ({"webhook-id": "msg_2"}, 1000, "does not fit"),
        ({"webhook-signature": "v2,abc"}, 1000, "does not fit"),
        ({"webhook-signature": "v1,ä"}, 1000, "does not fit"),
        ({"webhook-timestamp": ""}, 1000, "no time"),
    ],
)
def test_a_message_that_is_old_or_changed_is_refused(change, now, said):
    headers = {**sign(SECRET, "msg_1", 1000, b"{}"), **change}
    with pytest.raises(SignatureInvalid, match=said):
        verify_webhook(headers, b"{}", SECRET, now=now)


def test_several_signatures_may_come_while_a_secret_is_changed():
    headers = sign(SECRET, "msg_1", 1000, b"{}")
    headers["webhook-signature"] = "v1,bm9uZQ== " + headers["webhook-signature"]
    verify_webhook(headers, b"{}", SECRET, now=1000)


def test_what_is_no_secret_is_refused():
    with pytest.raises(InvalidInput, match="none of a webhook"):
        sign("whsec_!", "msg_1", 1000, b"")


@given(st.text("ab.*", min_size=1, max_size=12), st.text("ab.", max_size=12))
def test_a_pattern_means_what_a_shell_means_by_it(pattern, text):
    assert matches([pattern], text) is fnmatch.fnmatchcase(text, pattern)


def test_no_pattern_is_slow():
    assert not matches(["*a" * 59 + "*b"], "a" * 120)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "fec0::1", "::127.0.0.1", "192.0.0.8", "64:ff9b:1::a00:1", "3fff::1",
        "64:ff9b::10.0.0.1", "2002:7f00:1::", "2001:db8::1", "239.255.255.250", "ff0e::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused(address):
    with pytest.raises(WebhookRefused, match="not of the public internet"):
        check_address(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_what_is_public_is_reached(address):
    check_address(ip_address(address))


def test_a_network_of_the_settings_is_reached_and_no_other():
    allowed = [ip_network("10.1.0.0/16"), ip_network("::1/128")]
    check_address(ip_address("10.1.2.3"), allowed)
    check_address(ip_address("::ffff:10.1.2.3"), allowed)
    check_address(ip_address("::1"), allowed)
    with pytest.raises(WebhookRefused):
        check_address(ip_address("10.2.0.1"), allowed)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/", "http://", "https:///path", "http://user:word@example.org/", "http://example.org/#part",
        "http://localhost/", "http://a.localhost/", "http://127.0.0.1:80/", "http://[::1]/", "http://example.org:99999/",
        "http://[::1", "http://[fe80::1%25eth0]/",
    ],
)  # fmt: skip
def test_an_address_that_nothing_could_go_to_is_refused_at_once(url):
    with pytest.raises(WebhookRefused):
        check_url(url)


def test_a_name_is_taken_and_looked_up_later():
    check_url("https://hooks.example.org:8443/a?b=c")


@given(st.integers(1, 1000), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_pauses_stay_between_two_seconds_and_nine_hours(attempts, luck, asked):
    assert 2 <= pause_s(attempts, luck, asked) <= 9 * 3600


def test_pauses_grow_and_mind_what_the_receiver_asks():
    pauses = [pause_s(attempt, 0.5) for attempt in range(1, 17)]
    assert pauses == sorted(pauses)
    assert pause_s(1, 0.5, 60) == 60
