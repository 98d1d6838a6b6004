"""Signed messages between programs, as Standard Webhooks (https://www.standardwebhooks.com, specification 1.0) has them.

A secret is `whsec_` and base64, and `webhook-signature` is `v1,` and the base64 of an HMAC-SHA256 over `id.timestamp.body`.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from modelops.contracts.errors import InvalidInput, SignatureInvalid

SECRET_PREFIX = "whsec_"  # noqa: S105 - the form of one


def new_secret() -> str:
    """Return a new secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove who sent a message, and when.

    Args:
        secret: `whsec_…`.
        message_id: The same at each attempt.
        timestamp: Seconds since 1970.
        body: What is posted.
    """
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + _mac(secret, message_id, str(timestamp), body),
        "X-ModelOps-Signature": f"t={timestamp},v1={_plain_mac(secret, str(timestamp), body)}",
    }


def verify_webhook(
    headers: Mapping[str, str], body: bytes, secret: str, *, now: float, tolerance_s: float = 300
) -> None:
    """Check, as a receiver, that a message is from who holds the secret, is whole, and is fresh.

    Args:
        headers: Those of the request; the case of their names does not matter.
        body: The request's bytes, as they came.
        secret: `whsec_…`, as the webhook was made with.
        now: The time, in seconds since 1970.
        tolerance_s: How far the message's time may be from it, so that an old one cannot be sent again.

    Raises:
        SignatureInvalid: it is not.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
        raise SignatureInvalid("The message has no time.", hint="It is not one of the platform's.")
    if abs(now - int(timestamp)) > tolerance_s:
        raise SignatureInvalid("The message is too old, or from the future.", hint="Check this machine's clock.")
    expected = _mac(secret, message_id, timestamp, body).encode()
    signatures = [part.removeprefix("v1,") for part in given.get("webhook-signature", "").split() if part[:3] == "v1,"]
    if not any(hmac.compare_digest(expected, one.encode()) for one in signatures):
        raise SignatureInvalid(
            "The signature does not fit.", hint="Check the secret, and take the body's bytes as sent."
        )


def _mac(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _plain_mac(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.digest(_key(secret), f"{timestamp}.".encode() + body, hashlib.sha256).hex()


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise InvalidInput("The secret is none of a webhook.", hint="It has the form whsec_ and base64.") from None
