"""What can be decided of webhooks without a network: whom they may reach, how a message is signed, when it is tried again.

Messages follow Standard Webhooks (`contracts/messages.py`). The failures that it asks senders to mind, and the SSRF guard,
are in `docs/webhooks.md`.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote, urlsplit

from modelops.contracts.errors import InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
MAX_ATTEMPTS = 16
"""With the pauses below, the last is about two days after the first."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 4.0, 6 * 3600.0
_LONGEST_WAIT_ASKED_S = 6 * 3600.0
_MOST_RECIPIENTS = 50
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")
_NAT64 = ip_network("64:ff9b::/96")
_UNICAST = ip_network("2000::/3")
"""The only part of IPv6 that is given out to the public internet (RFC 4291, IANA)."""
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
"""Set apart by IANA, and taken for global by some versions of Python."""


class WebhookRefused(InvalidInput):
    """The address is none that a webhook may reach."""

    code, title = "webhooks.refused", "A webhook may not go there"


def check_url(url: str, allowed: Sequence[Network] = ()) -> None:
    """Refuse an address that no delivery could go to; where its host is a name, that is looked up at each delivery.

    Raises:
        WebhookRefused: it is no address of HTTP, holds a password, or names a host that is refused.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise WebhookRefused(f"'{url[:200]}' is no address.", hint="Write it as https://host/path.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise WebhookRefused(f"'{url[:200]}' is no address of HTTP.", hint="Write it as https://host/path.")
    if "@" in parts.netloc:
        raise WebhookRefused("The address holds a name or password.", hint="Receivers check the signature instead.")
    if parts.fragment:
        raise WebhookRefused("The address has a fragment, which is never sent.", hint="Leave out what follows the '#'.")
    literal = _literal(host)
    if literal is not None:
        check_address(literal, allowed)
    elif host == "localhost" or host.endswith(".localhost"):
        check_address(ip_address("127.0.0.1"), allowed)


def read_recipients(url: str) -> list[str]:
    """Return the addresses of `mailto:one@example.org,two@example.org`.

    Raises:
        WebhookRefused: it names none, or something that is no address.
    """
    named = [unquote(part) for part in url.removeprefix("mailto:").split(",")] if url.startswith("mailto:") else []
    if not 1 <= len(named) <= _MOST_RECIPIENTS or not all(_ADDRESS.fullmatch(one) for one in named):
        raise WebhookRefused(
            f"'{url[:200]}' names no addresses of e-mail.",
            hint=f"Write them as mailto:one@example.org,two@example.org; {_MOST_RECIPIENTS} at most.",
        )
    return named


def check_address(address: Address, allowed: Sequence[Network] = ()) -> None:
    """Refuse an address that is not of the public internet, unless it lies in an `allowed` network.

    Private, loopback, link-local, shared, multicast and reserved ones are refused, also where an IPv6 address carries
    such an IPv4 one (mapped, 6to4, Teredo, or NAT64).

    Raises:
        WebhookRefused: it is none.
    """
    if any(address in network for network in allowed):
        return
    for inner in _carried(address):
        if any(inner in network for network in allowed):
            return
        if not _is_public(inner):
            raise WebhookRefused(
                f"The address {address} is not of the public internet.",
                hint=f"Whoever runs the platform allows it: MODELOPS_WEBHOOK_NETWORKS='[\"{address}\"]'.",
            )


def pause_s(attempts: int, luck: float, asked_s: float | None = None) -> float:
    """Return how long to wait after so many attempts.

    It grows threefold up to six hours, spread by a half each way, and is not less than the receiver asked for.

    Args:
        attempts: How many were made, from 1.
        luck: Uniform in 0 to 1.
        asked_s: `Retry-After` in seconds; more than six hours count as six.
    """
    usual = min(_FIRST_PAUSE_S * 3.0 ** min(attempts - 1, 20), _LONGEST_PAUSE_S) * (0.5 + luck)
    return max(usual, min(asked_s or 0.0, _LONGEST_WAIT_ASKED_S))


def _literal(host: str) -> Address | None:
    """Return the address that a host is written as; None for a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast and not any(address in special for special in _SPECIAL)


def _carried(address: Address) -> list[Address]:
    """Return an address and the IPv4 ones inside it."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:  # `is_global` of the outer one says nothing here
        return [address.ipv4_mapped]
    inner: list[Address | None] = [address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address, *(one for one in inner if one is not None)]
