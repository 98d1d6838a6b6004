"""Where a replica listens, and whether it takes requests."""

import ipaddress
import json
import ssl
from pathlib import Path

import httpx

_TIMEOUT_S = 2.0


class Prober:
    """Asks replicas on this machine whether they are ready. Safe for threads."""

    def __init__(self) -> None:
        # Each probe is a new connection: it is what a new client would see, and leaves nothing open to a process that
        # is to end. Proxies from the environment have no say on this machine. Replicas speak plain HTTP: no certificate
        # is trusted, and none need be loaded.
        limits, nobody = httpx.Limits(max_keepalive_connections=0), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client = httpx.Client(timeout=_TIMEOUT_S, limits=limits, verify=nobody, trust_env=False)

    def is_ready(self, endpoint: str) -> bool:
        """Tell whether `GET <endpoint>/readyz` is answered with 200 in time."""
        try:
            with self._client.stream("GET", endpoint.rstrip("/") + "/readyz") as answer:
                return answer.status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL):
            return False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def endpoint_of(work: Path, host: str | None = None) -> str | None:
    """Return the URL that a replica wrote into its working directory; None until it has written a usable one.

    Only a plain HTTP address of this machine is usable, loopback or `host`: the platform calls it, and a replica must not send
    the platform elsewhere.
    """
    try:
        document = json.loads((work / "endpoint.json").read_bytes())
        url = httpx.URL(document["url"])
    except (OSError, ValueError, KeyError, TypeError, httpx.InvalidURL):
        return None
    return str(url) if url.scheme == "http" and _is_here(url.host, host) else None


def grpc_endpoint_of(work: Path, host: str | None = None) -> str | None:
    """Return the `host:port` for gRPC that a replica wrote into its working directory; None where it has none here."""
    try:
        address = json.loads((work / "endpoint.json").read_bytes()).get("grpc")
        url = httpx.URL(f"http://{address}")
    except (OSError, ValueError, AttributeError, httpx.InvalidURL):
        return None
    return str(address) if isinstance(address, str) and url.port and _is_here(url.host, host) else None


def _is_here(host: str, own: str | None) -> bool:
    if host in ("localhost", own):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
