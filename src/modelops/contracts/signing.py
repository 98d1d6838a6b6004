"""Ed25519 signatures (RFC 8032) over a typed payload, in DSSE's pre-authentication encoding.

The payload's type is signed with it, so a signature over one kind of document can never be shown as one over another.
DSSE: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from modelops.contracts.errors import SignatureInvalid
from modelops.contracts.schemas import Schema


class Signature(Schema):
    """A detached signature: whose key, and the 64 bytes in base64url without padding."""

    key_id: str
    algorithm: str
    value: str


def encode(raw: bytes) -> str:
    """Return base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Reverse `encode`."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def canonical(document: Any) -> bytes:
    """Return the one byte form of a JSON document that is hashed and signed: sorted keys, no spaces, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(content: bytes) -> str:
    """Return `sha256:<hex>` of a content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def key_id(public_key: bytes) -> str:
    """Name a raw 32-byte public key by the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def sign(private_key: Ed25519PrivateKey, payload_type: str, payload: bytes, *, name: str | None = None) -> Signature:
    """Sign `payload` as a document of `payload_type` (a media type). `name` is the key's id, where it is known."""
    value = private_key.sign(preauth(payload_type, payload))
    name = name or key_id(private_key.public_key().public_bytes_raw())
    return Signature(key_id=name, algorithm="ed25519", value=encode(value))


def verify(trusted: Mapping[str, str], payload_type: str, payload: bytes, signature: Signature) -> None:
    """Check a signature against the trusted public keys (key id -> base64url of the raw 32 bytes).

    Raises:
        SignatureInvalid: the key is not trusted, or the signature does not fit the payload.
    """
    public = trusted.get(signature.key_id)
    if public is None or signature.algorithm != "ed25519":
        raise SignatureInvalid(f"The signature is by the key '{signature.key_id}', which is not trusted here.")
    try:
        Ed25519PublicKey.from_public_bytes(decode(public)).verify(
            decode(signature.value), preauth(payload_type, payload)
        )
    except (InvalidSignature, ValueError) as wrong:
        raise SignatureInvalid(
            "The content was changed after it was signed, or the signature is not its own."
        ) from wrong


def preauth(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed in place of a payload: its type, too, in DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
