"""Whom connections trust, decided when the first of them is secured."""

import ssl
from typing import Any

import httpx


class TrustLater(ssl.SSLContext):
    """What httpx trusts by default, read when a connection is secured: a program that speaks plain HTTP with a platform of its
    own machine never reads the list of authorities, which takes longer than all else of its connection.

    Made as `TrustLater.new()`. Used in any other way than to secure connections, it trusts nobody.
    """

    _real: ssl.SSLContext | None = None
    _protocols: tuple[str, ...] = ()

    @classmethod
    def new(cls) -> "TrustLater":
        """Return one for a client."""
        return cls(ssl.PROTOCOL_TLS_CLIENT)

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        """Note which protocols the client speaks."""
        self._protocols = tuple(alpn_protocols)

    def wrap_socket(self, *socket: Any, **options: Any) -> ssl.SSLSocket:
        """Secure a connection."""
        return self._trust().wrap_socket(*socket, **options)

    def wrap_bio(self, *ends: Any, **options: Any) -> ssl.SSLObject:
        """Secure a connection within another."""
        return self._trust().wrap_bio(*ends, **options)

    def _trust(self) -> ssl.SSLContext:
        if self._real is None:
            real = httpx.create_ssl_context()
            real.set_alpn_protocols(list(self._protocols))
            self._real = real
        return self._real
