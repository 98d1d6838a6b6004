"""Secrets at rest: private keys lie in the database sealed with AES-256-GCM under the platform's secret key."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from modelops.contracts.errors import InvalidInput
from modelops.contracts.signing import decode, encode


class SecretBox:
    """Seals and opens small secrets.

    Args:
        secret: The platform's secret key, of any length; the cipher's key is derived from it (HKDF, RFC 5869).
    """

    def __init__(self, secret: bytes) -> None:
        derived = HKDF(SHA256(), length=32, salt=None, info=b"modelops secret box v1").derive(secret)
        self._cipher = AESGCM(derived)

    def seal(self, content: bytes, label: str) -> str:
        """Return the sealed content; it opens only under the same label."""
        nonce = os.urandom(12)
        return encode(nonce + self._cipher.encrypt(nonce, content, label.encode()))

    def open(self, sealed: str, label: str) -> bytes:
        """Reverse `seal`.

        Raises:
            InvalidInput: it was sealed under another key or label, or changed.
        """
        raw = decode(sealed)
        try:
            return self._cipher.decrypt(raw[:12], raw[12:], label.encode())
        except InvalidTag as wrong:
            raise InvalidInput(
                "The platform's secret key does not open what this database holds.",
                hint="Restore `secret.key` of the home folder, or the `MODELOPS_SECRET_KEY` that the database was made with.",
            ) from wrong
