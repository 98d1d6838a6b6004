"""One message to one receiver: the address that was checked is the one connected to, no redirect is followed, and the
whole exchange, however slowly the receiver speaks, ends in time.
"""

import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any

import httpcore
import httpx

from modelops.contracts.errors import InvalidInput
from modelops.domains.webhooks.rules import Network, check_address

TIMEOUT_S = 10.0
_AGENT = ("User-Agent", "ModelOps-Webhooks/1")


@dataclass(frozen=True)
class Reply:
    """What came of an attempt. `retry_after_s` is what the receiver asked for."""

    status: int | None
    error: str | None
    duration_ms: float
    retry_after_s: float | None = None


def send(url: str, headers: dict[str, str], body: bytes, allowed: Sequence[Network] = ()) -> Reply:
    """Post a message, `Content-Type` among its headers, and return what was answered; never raises for what a receiver does."""
    began = time.monotonic()
    network = _Guarded(allowed, began + TIMEOUT_S)
    try:
        with httpcore.ConnectionPool(ssl_context=_trust(), network_backend=network, retries=0) as pool:
            with pool.stream("POST", url, headers=[_AGENT, *headers.items()], content=body) as answer:
                status, asked = answer.status, _retry_after(answer.headers)
    except InvalidInput as refused:
        return Reply(None, refused.detail, _since(began))
    except (httpcore.TimeoutException, TimeoutError):
        return Reply(None, f"The receiver did not answer within {TIMEOUT_S:g} s.", _since(began))
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError, ValueError) as wrong:
        return Reply(None, f"{type(wrong).__name__}: {str(wrong)[:300]}", _since(began))
    error = None if 200 <= status < 300 else _why(status)
    return Reply(status, error, _since(began), asked)


@cache
def _trust() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _why(status: int) -> str:
    return "Redirects are not followed." if 300 <= status < 400 else f"The receiver answered {status}."


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1e3, 3)


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 10:
            return float(value)
    return None


class _Guarded(httpcore.NetworkBackend):
    """Connects to public addresses, and to those allowed, until a moment."""

    def __init__(self, allowed: Sequence[Network], deadline: float) -> None:
        self._allowed = allowed
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        """Look the host up, refuse it if one of its addresses is refused, and connect to the first that answers."""
        addresses = _look_up(host, port)
        for address in addresses:
            check_address(ip_address(address.partition("%")[0]), self._allowed)
        for address in addresses[:-1]:
            try:
                return self._connect(address, port)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect(addresses[-1], port)

    def _connect(self, address: str, port: int) -> httpcore.NetworkStream:
        stream = self._plain.connect_tcp(address, port, timeout=_left(self._deadline))
        return _Timed(stream, self._deadline)


class _Timed(httpcore.NetworkStream):
    """A stream of which every read and write ends at one moment: a receiver that drips bytes gains nothing."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has come."""
        return self._stream.read(max_bytes, timeout=_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it."""
        self._stream.write(buffer, timeout=_left(self._deadline))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Speak TLS from here on, with the certificate of the name, not of the address."""
        stream = self._stream.start_tls(ssl_context, server_hostname, timeout=_left(self._deadline))
        return _Timed(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Return what the stream below knows."""
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as unknown:
        raise httpcore.ConnectError(f"The host '{host}' is not known.") from unknown
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
